//! What clients are told of each error: the one place that decides it.

use mortise_core::ids::GroupId;
use mortise_proto::v1::{ErrorCode, ErrorDetail};
use mortise_runtime::{LoadError, LocalFault};
use tonic::{Code, Status};

use crate::replica::{AdminError, QueryError, WatchError, WriteError};
use crate::security::AccessError;

impl From<WriteError> for ErrorDetail {
    fn from(error: WriteError) -> Self {
        let message = error.to_string();
        match error {
            WriteError::Rejected(rejection) => Self::rejected(&rejection),
            WriteError::Failed(failure) => Self::failed(&failure),
            WriteError::NoSuchTenant | WriteError::OtherGroup { .. } => {
                Self::new(ErrorCode::NotFound, message)
            }
            WriteError::SessionExpired => Self::new(ErrorCode::SessionExpired, message),
            // Once it may have been executed; it is not executed again.
            WriteError::AlreadyAnswered => Self::new(ErrorCode::AlreadyAnswered, message).effect_unknown(),
            WriteError::Overloaded(_) => Self::new(ErrorCode::Overloaded, message).retryable(),
            WriteError::TooLarge { .. } => Self::new(ErrorCode::TooLarge, message),
            WriteError::DiskFull { .. } => Self::new(ErrorCode::DiskFull, message).retryable(),
            // It may be in the log. Sent again on this stream, it would meet the same answer.
            WriteError::Superseded => Self::new(ErrorCode::Superseded, message).effect_unknown(),
            WriteError::Lost => Self::new(ErrorCode::Lost, message),
            WriteError::NotLeader { group, leader } => {
                not_leader(message, group, leader.map(|leader| leader.data))
            }
            WriteError::LeadershipLost => {
                Self::new(ErrorCode::NotLeader, message).retryable().effect_unknown()
            }
            WriteError::ShuttingDown => Self::new(ErrorCode::ShuttingDown, message).retryable(),
            WriteError::Stopped(_) => Self::new(ErrorCode::Internal, message).effect_unknown(),
            WriteError::Invalid(_) => Self::new(ErrorCode::Invalid, message),
        }
    }
}

impl From<QueryError> for ErrorDetail {
    fn from(error: QueryError) -> Self {
        let message = error.to_string();
        match error {
            QueryError::Rejected(rejection) => Self::rejected(&rejection),
            QueryError::Failed(failure) => Self::failed(&failure),
            QueryError::NoSuchTenant => Self::new(ErrorCode::NotFound, message),
            QueryError::NotLeader { group, leader } => {
                not_leader(message, group, leader.map(|leader| leader.data))
            }
            QueryError::Unconfirmed => Self::new(ErrorCode::DeadlineExceeded, message).retryable(),
            QueryError::Lost => Self::new(ErrorCode::Lost, message),
            QueryError::OutOfService => Self::new(ErrorCode::ShuttingDown, message).retryable(),
            QueryError::Overloaded(_) => Self::new(ErrorCode::Overloaded, message).retryable(),
            QueryError::ShuttingDown => Self::new(ErrorCode::ShuttingDown, message).retryable(),
            QueryError::Internal(_) => internal(message),
        }
    }
}

impl From<WatchError> for ErrorDetail {
    fn from(error: WatchError) -> Self {
        let message = error.to_string();
        match error {
            WatchError::Query(error) => error.into(),
            WatchError::Compacted { oldest, .. } => {
                Self { oldest_sequence: oldest, ..Self::new(ErrorCode::Compacted, message) }
            }
            WatchError::Ahead { .. } => Self::new(ErrorCode::Invalid, message),
            WatchError::NotKept | WatchError::Lost => Self::new(ErrorCode::FailedPrecondition, message),
        }
    }
}

impl From<AdminError> for ErrorDetail {
    fn from(error: AdminError) -> Self {
        let message = error.to_string();
        match error {
            AdminError::NotFound { .. } => Self::new(ErrorCode::NotFound, message),
            AdminError::AlreadyExists { .. } | AdminError::Taken { .. } => {
                Self::new(ErrorCode::AlreadyExists, message)
            }
            AdminError::Directory(_) => Self::new(ErrorCode::FailedPrecondition, message).retryable(),
            AdminError::Invalid(_) => Self::new(ErrorCode::Invalid, message),
            AdminError::FailedPrecondition(_) => Self::new(ErrorCode::FailedPrecondition, message),
            AdminError::Plugin(LoadError::Local(LocalFault::PoolFull { .. })) => {
                Self::new(ErrorCode::Overloaded, message).retryable()
            }
            AdminError::Plugin(LoadError::Local(_)) => internal(message),
            AdminError::Plugin(LoadError::TooBig { .. }) => Self::new(ErrorCode::TooLarge, message),
            AdminError::Plugin(LoadError::CompilerBusy { .. }) => {
                Self::new(ErrorCode::Overloaded, message).retryable()
            }
            AdminError::Plugin(_) => Self::new(ErrorCode::Invalid, message),
            AdminError::Write(WriteError::NotLeader { group, leader }) => {
                not_leader(message, group, leader.map(|leader| leader.admin))
            }
            AdminError::Write(error) => error.into(),
            // A change may be in the log already.
            AdminError::Internal(_) => internal(message).effect_unknown(),
        }
    }
}

/// The error of a call about a session: unlike what is administered, sessions are found at the leader's data listener.
pub(super) fn of_session(error: AdminError) -> ErrorDetail {
    match error {
        AdminError::Write(error) => error.into(),
        error => error.into(),
    }
}

impl From<AccessError> for ErrorDetail {
    fn from(error: AccessError) -> Self {
        let code = match error {
            AccessError::Missing
            | AccessError::Malformed
            | AccessError::Unknown
            | AccessError::Expired { .. } => ErrorCode::Unauthenticated,
            AccessError::Scope { .. } | AccessError::Tenant { .. } => ErrorCode::PermissionDenied,
        };
        Self::new(code, error.to_string())
    }
}

fn not_leader(message: String, group: GroupId, hint: Option<String>) -> ErrorDetail {
    let detail = ErrorDetail::new(ErrorCode::NotLeader, message).retryable();
    ErrorDetail { group: group.0, leader_hint: hint.unwrap_or_default(), ..detail }
}

/// A fault of this node. Its clients learn little of it; the log says more.
fn internal(message: String) -> ErrorDetail {
    tracing::error!(error = %message, "a call failed at a fault of this node");
    ErrorDetail::new(ErrorCode::Internal, message)
}

/// The call is meant for another cluster. Another of the caller's addresses may lead there.
pub(super) fn wrong_cluster() -> ErrorDetail {
    let message = "this node is of another cluster than the one that the client began with";
    ErrorDetail::new(ErrorCode::WrongCluster, message).retryable()
}

/// No such tenant, by name.
pub(super) fn no_such_tenant(name: &str) -> ErrorDetail {
    ErrorDetail::new(ErrorCode::NotFound, format!("no such tenant: {name:?}"))
}

/// The caller's deadline passed. `changes`: whether the call could change anything.
pub(super) fn deadline_exceeded(changes: bool) -> ErrorDetail {
    let detail = ErrorDetail::new(ErrorCode::DeadlineExceeded, "the caller's deadline passed").retryable();
    if changes { detail.effect_unknown() } else { detail }
}

/// The detail of a status that the transport made before a call reached its service; `None` where it has one, or is
/// none of the node's business. All errors of services carry details, so what carries none comes from tonic, which
/// says OUT_OF_RANGE of a message over the size limit and INTERNAL of one that it cannot decode.
pub(super) fn of_transport(status: &Status) -> Option<ErrorDetail> {
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => Some(ErrorDetail::new(
            ErrorCode::TooLarge,
            format!("the message is too large: {}", status.message()),
        )),
        Code::Internal | Code::InvalidArgument => {
            Some(ErrorDetail::new(ErrorCode::Invalid, format!("malformed message: {}", status.message())))
        }
        _ => None,
    }
}

/// Why the messages of a caller's stream broke off.
pub(super) fn of_input(status: Status) -> ErrorDetail {
    of_transport(&status).unwrap_or_else(|| {
        // The connection is gone, and so is whoever would read this.
        ErrorDetail::new(ErrorCode::Invalid, format!("the stream broke off: {}", status.message()))
    })
}

#[cfg(test)]
mod tests {
    use mortise_core::group::NodeId;
    use mortise_core::outcome::{Failure, Limit, Rejection, RejectionKind};
    use mortise_proto::v1::TookEffect;

    use super::*;
    use crate::replica::Leader;

    #[test]
    fn every_write_error_has_its_code_and_says_what_to_do() {
        let rejection =
            Rejection { kind: RejectionKind::Exhausted, code: "full".into(), message: "no room".into() };
        let failure = Failure::LimitExceeded { limit: Limit::Fuel };
        let too_large = WriteError::TooLarge { what: "a command", bytes: 2, max: 1 };
        let other_group = WriteError::OtherGroup { shown: GroupId(1), group: GroupId(2) };
        let (no, unknown) = (TookEffect::No, TookEffect::Unknown);
        for (error, code, retryable, effect) in [
            (WriteError::Rejected(rejection), Code::ResourceExhausted, false, no),
            (WriteError::Failed(failure), Code::FailedPrecondition, false, no),
            (WriteError::NoSuchTenant, Code::NotFound, false, no),
            (other_group, Code::NotFound, false, no),
            (WriteError::SessionExpired, Code::FailedPrecondition, false, no),
            (WriteError::AlreadyAnswered, Code::AlreadyExists, false, unknown),
            (WriteError::Overloaded("full"), Code::ResourceExhausted, true, no),
            (too_large, Code::ResourceExhausted, false, no),
            (WriteError::DiskFull { free: 1, mark: 2 }, Code::ResourceExhausted, true, no),
            (WriteError::Superseded, Code::Aborted, false, unknown),
            (WriteError::Lost, Code::Aborted, false, no),
            (WriteError::NotLeader { group: GroupId(1), leader: None }, Code::Unavailable, true, no),
            (WriteError::LeadershipLost, Code::Unavailable, true, unknown),
            (WriteError::ShuttingDown, Code::Unavailable, true, no),
            (WriteError::Stopped("fsync".into()), Code::Internal, false, unknown),
            (WriteError::Invalid("bad".into()), Code::InvalidArgument, false, no),
        ] {
            let text = error.to_string();
            let detail = ErrorDetail::from(error);
            assert_eq!(
                (detail.grpc_code(), detail.retryable, detail.took_effect()),
                (code, retryable, effect),
                "{text}"
            );
            assert!(!detail.message.is_empty());
        }
    }

    #[test]
    fn each_listener_names_the_leaders_own() {
        let leader = Leader { node: NodeId(2), data: "data:1".into(), admin: "admin:1".into() };
        let error =
            || AdminError::Write(WriteError::NotLeader { group: GroupId(1), leader: Some(leader.clone()) });
        assert_eq!(ErrorDetail::from(error()).leader_hint, "admin:1");
        assert_eq!(of_session(error()).leader_hint, "data:1");
    }

    #[test]
    fn watch_errors_say_where_to_go_on() {
        let compacted = ErrorDetail::from(WatchError::Compacted { wanted: 3, oldest: 17 });
        assert_eq!((compacted.grpc_code(), compacted.oldest_sequence), (Code::OutOfRange, 17));
        assert!(compacted.message.contains("sequence 3") && compacted.message.contains("17"));
        let code = |error: WatchError| ErrorDetail::from(error).grpc_code();
        assert_eq!(code(WatchError::Ahead { wanted: 9, newest: 7 }), Code::InvalidArgument);
        assert_eq!(code(WatchError::NotKept), Code::FailedPrecondition);
        assert_eq!(code(WatchError::Lost), Code::FailedPrecondition);
        assert_eq!(code(WatchError::Query(QueryError::NoSuchTenant)), Code::NotFound);
    }

    #[test]
    fn access_errors_tell_who_from_what() {
        let code = |error: AccessError| ErrorDetail::from(error).grpc_code();
        assert_eq!(code(AccessError::Missing), Code::Unauthenticated);
        assert_eq!(code(AccessError::Expired { name: "t".into() }), Code::Unauthenticated);
        assert_eq!(code(AccessError::Scope { name: "t".into(), scope: "admin" }), Code::PermissionDenied);
    }

    #[test]
    fn only_statuses_of_the_transport_are_explained() {
        let ours = Status::from(ErrorDetail::new(ErrorCode::Internal, "ours"));
        assert_eq!(of_transport(&ours), None);
        assert_eq!(of_transport(&Status::unimplemented("no such method")), None);
        let large = of_transport(&Status::out_of_range("17 bytes")).unwrap();
        assert_eq!((large.code(), large.grpc_code()), (ErrorCode::TooLarge, Code::ResourceExhausted));
        assert_eq!(of_transport(&Status::internal("utf-8")).unwrap().code(), ErrorCode::Invalid);
    }
}
