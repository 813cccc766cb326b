//! What can go wrong, in terms that a caller can act on.

use std::fmt;
use std::sync::Arc;

use mortise_core::outcome::Rejection;
use mortise_proto::v1::{self, ErrorCode, ErrorDetail};
use tonic::{Code, Status};

/// Why a call failed. Cheap to clone: one cause may end many writes.
#[derive(Clone)]
pub struct ClientError(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    took_effect: TookEffect,
    retryable: bool,
    rejection: Option<Rejection>,
    leader_hint: Option<String>,
    group: Option<u64>,
    groups: Vec<u64>,
    oldest_sequence: Option<u64>,
}

/// The kinds of errors. Those up to [`ErrorKind::Internal`] come from the node, the others from this library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The plugin refused: see [`ClientError::rejection`].
    Rejected,
    /// The plugin trapped or passed a limit of its profile.
    PluginFailed,
    /// A malformed message or argument.
    Invalid,
    /// No such tenant, plugin or snapshot.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// No token, or a wrong or expired one.
    Unauthenticated,
    /// The token's scopes do not allow it.
    PermissionDenied,
    /// The session is unknown or expired: open a new one.
    SessionExpired,
    /// The client said that it had this write's answer; it is not executed again.
    AlreadyAnswered,
    /// A bounded queue is full.
    Overloaded,
    /// A message, command or window is over its limit.
    TooLarge,
    /// The node's free disk is below the low-water mark; reads go on.
    DiskFull,
    /// The deadline passed.
    DeadlineExceeded,
    /// Another writer took over this session.
    Superseded,
    /// The leader alone had acknowledged the write, and it went with the leader.
    Lost,
    /// The node is stopping.
    ShuttingDown,
    /// Another node leads: see [`ClientError::leader_hint`].
    NotLeader,
    /// The state of things does not allow it.
    FailedPrecondition,
    /// What a watch is to tell next is not kept any more: see [`ClientError::oldest_sequence`].
    Compacted,
    /// The node is of another cluster than the one that the client began with, and did nothing.
    WrongCluster,
    /// A fault of the node; its log says more.
    Internal,
    /// Nobody answers at the address, or the connection broke.
    Unavailable,
    /// The answer is none that this release understands.
    Protocol,
    /// The writer was closed.
    Closed,
}

/// Whether a failed call changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TookEffect {
    /// It changed nothing.
    No,
    /// It took effect.
    Yes,
    /// It may or may not have. Sent again with the same session and sequence it would tell.
    Unknown,
}

impl ClientError {
    /// An error that changed nothing and is not worth a retry.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            took_effect: TookEffect::No,
            retryable: false,
            rejection: None,
            leader_hint: None,
            group: None,
            groups: Vec::new(),
            oldest_sequence: None,
        }))
    }

    /// The same, worth a retry.
    pub(crate) fn retryable(self) -> Self {
        self.change(|inner| inner.retryable = true)
    }

    /// The same, but nobody knows whether it took effect.
    pub(crate) fn effect_unknown(self) -> Self {
        self.change(|inner| inner.took_effect = TookEffect::Unknown)
    }

    /// The same, of something that was done.
    pub(crate) fn with_effect(self) -> Self {
        self.change(|inner| inner.took_effect = TookEffect::Yes)
    }

    /// The same, of something that was not even tried.
    pub(crate) fn without_effect(self) -> Self {
        self.change(|inner| inner.took_effect = TookEffect::No)
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What is wrong, for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the call changed anything.
    pub fn took_effect(&self) -> TookEffect {
        self.0.took_effect
    }

    /// Whether the same call may succeed when made again.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// The plugin's own words, where it refused.
    pub fn rejection(&self) -> Option<&Rejection> {
        self.0.rejection.as_ref()
    }

    /// Where the leader is, as host:port, where the node knows one and is none.
    pub fn leader_hint(&self) -> Option<&str> {
        self.0.leader_hint.as_deref()
    }

    /// The group that the call is about, where the node is not its leader and knows which it is.
    pub fn group(&self) -> Option<u64> {
        self.0.group
    }

    /// The groups of the cluster, where the call has to say which one is meant.
    pub fn groups(&self) -> &[u64] {
        &self.0.groups
    }

    /// With [`ErrorKind::Compacted`]: the oldest sequence that can be watched from. Read the state anew first.
    pub fn oldest_sequence(&self) -> Option<u64> {
        self.0.oldest_sequence
    }

    /// Whether the plugin has decided: it refused, or it failed. Such an outcome is recorded with its session, and
    /// stays the same however often the write is sent.
    pub fn is_outcome(&self) -> bool {
        matches!(self.kind(), ErrorKind::Rejected | ErrorKind::PluginFailed)
    }
}

impl From<ErrorDetail> for ClientError {
    fn from(detail: ErrorDetail) -> Self {
        let rejection = detail.to_rejection();
        let kind = match detail.code() {
            ErrorCode::Rejected => ErrorKind::Rejected,
            ErrorCode::PluginFailed => ErrorKind::PluginFailed,
            ErrorCode::Invalid => ErrorKind::Invalid,
            ErrorCode::NotFound => ErrorKind::NotFound,
            ErrorCode::AlreadyExists => ErrorKind::AlreadyExists,
            ErrorCode::Unauthenticated => ErrorKind::Unauthenticated,
            ErrorCode::PermissionDenied => ErrorKind::PermissionDenied,
            ErrorCode::SessionExpired => ErrorKind::SessionExpired,
            ErrorCode::AlreadyAnswered => ErrorKind::AlreadyAnswered,
            ErrorCode::Overloaded => ErrorKind::Overloaded,
            ErrorCode::TooLarge => ErrorKind::TooLarge,
            ErrorCode::DiskFull => ErrorKind::DiskFull,
            ErrorCode::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            ErrorCode::Superseded => ErrorKind::Superseded,
            ErrorCode::Lost => ErrorKind::Lost,
            ErrorCode::ShuttingDown => ErrorKind::ShuttingDown,
            ErrorCode::NotLeader => ErrorKind::NotLeader,
            ErrorCode::FailedPrecondition => ErrorKind::FailedPrecondition,
            ErrorCode::Compacted => ErrorKind::Compacted,
            ErrorCode::WrongCluster => ErrorKind::WrongCluster,
            ErrorCode::Internal => ErrorKind::Internal,
            ErrorCode::Unspecified => ErrorKind::Protocol,
        };
        let took_effect = match detail.took_effect() {
            v1::TookEffect::No => TookEffect::No,
            v1::TookEffect::Yes => TookEffect::Yes,
            v1::TookEffect::Unknown => TookEffect::Unknown,
        };
        Self(Arc::new(Inner {
            kind,
            message: detail.message,
            took_effect,
            retryable: detail.retryable,
            rejection,
            leader_hint: Some(detail.leader_hint).filter(|hint| !hint.is_empty()),
            group: Some(detail.group).filter(|group| *group != 0),
            groups: detail.groups,
            oldest_sequence: Some(detail.oldest_sequence).filter(|oldest| *oldest > 0),
        }))
    }
}

impl From<Status> for ClientError {
    /// The detail that the status carries; without one, what its gRPC code says.
    fn from(status: Status) -> Self {
        if let Some(detail) = ErrorDetail::from_status(&status) {
            return detail.into();
        }
        if let Some(reason) = never_connected(&status) {
            return Self::new(ErrorKind::Unavailable, format!("cannot connect: {reason}")).retryable();
        }
        if status.code() == Code::Unimplemented {
            let problem = "the node does not know this call: is it another server, or an older release?";
            return Self::new(ErrorKind::Protocol, problem);
        }
        let kind = match status.code() {
            Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Aborted => ErrorKind::Unavailable,
            Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            Code::Unauthenticated => ErrorKind::Unauthenticated,
            Code::PermissionDenied => ErrorKind::PermissionDenied,
            Code::ResourceExhausted | Code::OutOfRange => ErrorKind::TooLarge,
            // What HTTP/2 says of a connection that was cut in the middle of a message.
            Code::Internal => ErrorKind::Unavailable,
            _ => ErrorKind::Protocol,
        };
        let message = match status.message() {
            "" => format!("the node answered {:?}", status.code()),
            message => format!("{message} ({:?})", status.code()),
        };
        let error = Self::new(kind, message).effect_unknown();
        if matches!(kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded) {
            return error.retryable();
        }
        error
    }
}

/// Why there was no connection to send the call on, if that was it.
fn never_connected(status: &Status) -> Option<String> {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(tonic::ConnectError(reason)) = error.downcast_ref() {
            let mut root: &dyn std::error::Error = reason.as_ref();
            while let Some(deeper) = root.source() {
                root = deeper;
            }
            return Some(root.to_string());
        }
        source = error.source();
    }
    None
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.rejection {
            Some(rejection) => write!(f, "rejected ({}): {}", rejection.code, rejection.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, took_effect, retryable, rejection, .. } = &*self.0;
        f.debug_struct("ClientError")
            .field("kind", kind)
            .field("message", message)
            .field("took_effect", took_effect)
            .field("retryable", retryable)
            .field("rejection", rejection)
            .finish()
    }
}

impl std::error::Error for ClientError {}

#[cfg(test)]
mod tests {
    use mortise_core::outcome::RejectionKind;

    use super::*;

    #[test]
    fn a_rejection_arrives_whole() {
        let rejection = Rejection {
            kind: RejectionKind::Conflict,
            code: "insufficient_funds".into(),
            message: "ann has 3".into(),
        };
        let error = ClientError::from(Status::from(ErrorDetail::rejected(&rejection)));
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert_eq!(error.rejection(), Some(&rejection));
        assert_eq!(error.to_string(), "rejected (insufficient_funds): ann has 3");
        assert!(error.is_outcome() && !error.is_retryable());
    }

    #[test]
    fn a_cut_connection_leaves_the_effect_unknown() {
        for code in [Code::Unavailable, Code::Internal, Code::Unknown, Code::Cancelled] {
            let error = ClientError::from(Status::new(code, "broken"));
            assert_eq!(
                (error.kind(), error.took_effect(), error.is_retryable()),
                (ErrorKind::Unavailable, TookEffect::Unknown, true),
                "{code:?}"
            );
        }
    }
}
