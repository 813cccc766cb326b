//! The caller's deadline, from the header `grpc-timeout`, and what else ends a stream from without.

use std::time::Duration;

use axum::http::HeaderMap;

use super::Context;
use super::guard::Call;

/// What ends a stream from without.
pub(super) enum Ending {
    Deadline,
    Draining,
}

/// Resolves when a stream is to end.
pub(super) fn ending(context: &Context, call: &Call) -> impl Future<Output = Ending> + Send + 'static {
    let draining = context.draining();
    let deadline = call.deadline;
    async move {
        match deadline {
            None => draining.await,
            Some(deadline) => {
                if tokio::time::timeout_at(deadline, draining).await.is_err() {
                    return Ending::Deadline;
                }
            }
        }
        Ending::Draining
    }
}

/// How long the caller waits; `None`: for ever. A value that breaks the protocol counts as none, as in other gRPC
/// servers.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// 1 to 8 digits and a unit: PROTOCOL-HTTP2.md of gRPC, "Timeout".
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_nonsense_is_no_deadline() {
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse("15m"), Some(Duration::from_millis(15)));
        assert_eq!(parse("0u"), Some(Duration::ZERO));
        assert_eq!(parse("7n"), Some(Duration::from_nanos(7)));
        for text in ["", "S", "10", "-1S", "+1S", "123456789S", "1s", "1é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
