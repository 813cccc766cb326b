//! The span of a call, with the caller's trace context where it sends one (W3C Trace Context, header `traceparent`).
//!
//! One span a call, one a stream: nothing here happens once a write.

use axum::http::HeaderMap;
use tracing::Span;
use tracing::field::{Empty, display};

/// A caller's trace: 32 and 16 hexadecimal digits.
#[derive(Debug, PartialEq, Eq)]
struct TraceParent<'a> {
    trace_id: &'a str,
    parent_id: &'a str,
}

/// The span of a call of `method`.
pub(super) fn span(method: &'static str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!("call", method, trace_id = Empty, parent_id = Empty, principal = Empty);
    if !span.is_disabled()
        && let Some(header) = headers.get("traceparent").and_then(|value| value.to_str().ok())
        && let Some(parent) = parse(header)
    {
        span.record("trace_id", display(parent.trace_id)).record("parent_id", display(parent.parent_id));
    }
    span
}

/// `00-TRACE-PARENT-FLAGS`. Later versions may append fields, which do not matter here.
fn parse(header: &str) -> Option<TraceParent<'_>> {
    let mut fields = header.split('-');
    let (version, trace_id, parent_id, flags) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let formed = hex(version, 2) && hex(trace_id, 32) && hex(parent_id, 16) && hex(flags, 2);
    let known = version != "ff" && (version != "00" || fields.next().is_none());
    (formed && known && !zero(trace_id) && !zero(parent_id)).then_some(TraceParent { trace_id, parent_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    #[test]
    fn a_trace_parent_is_read() {
        let expected = Some(TraceParent { trace_id: TRACE, parent_id: PARENT });
        assert_eq!(parse(&format!("00-{TRACE}-{PARENT}-01")), expected);
        assert_eq!(parse(&format!("cc-{TRACE}-{PARENT}-00-more")), expected);
    }

    #[test]
    fn a_malformed_trace_parent_is_ignored() {
        for header in [
            String::new(),
            "00".into(),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{}-{PARENT}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{PARENT}-01", &TRACE[1..]),
        ] {
            assert_eq!(parse(&header), None, "{header}");
        }
    }
}
