//! What an error of the client means for the request.

use std::error::Error as _;

use etcd_client::Error;

use crate::backend::BackendError;
use crate::seen::Revision;

/// gRPC's status codes, by their numbers in its specification.
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const OUT_OF_RANGE: i32 = 11;
const UNAUTHENTICATED: i32 = 16;

/// What an error means. Whatever is not certainly refused may have happened: etcd answers "unavailable" and "timeout"
/// for transactions that it applies later.
pub(super) fn classify(error: Error, endpoint: &str) -> BackendError {
    let endpoint = endpoint.to_owned();
    match error {
        Error::GRpcStatus(status) => {
            let why = format!("{} ({:?})", with_causes(status.message(), status.source()), status.code());
            match status.code() as i32 {
                // etcd says "authentication failed" as an invalid argument, and checks arguments before it acts.
                INVALID_ARGUMENT | FAILED_PRECONDITION if is_login(status.message()) => {
                    BackendError::Denied { endpoint, why }
                }
                PERMISSION_DENIED | UNAUTHENTICATED => BackendError::Denied { endpoint, why },
                NOT_FOUND => BackendError::LeaseGone,
                OUT_OF_RANGE => BackendError::Compacted(Revision(0)),
                INVALID_ARGUMENT | RESOURCE_EXHAUSTED => BackendError::NotDone { endpoint, why },
                _ => BackendError::Unanswered { endpoint, why },
            }
        }
        // The client says so for a renewal of a lease that etcd does not know.
        Error::LeaseKeepAliveError(_) => BackendError::LeaseGone,
        // These are found before anything is sent.
        error @ (Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_)) => {
            BackendError::NotDone { endpoint, why: error.to_string() }
        }
        error => BackendError::Unanswered { endpoint, why: with_causes(&error.to_string(), error.source()) },
    }
}

/// The one place where a text is looked at: etcd has no code of its own for a wrong password or a missing user, and
/// all that depends on it is which error an operator reads.
fn is_login(message: &str) -> bool {
    message.contains("authentication") || message.contains("user name")
}

/// What happened, with causes such as "connection refused", which a status hides in its sources.
fn with_causes(text: &str, mut source: Option<&(dyn std::error::Error + 'static)>) -> String {
    let mut text = text.to_owned();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
