//! [`ErrorDetail`] in and out of a [`tonic::Status`].

use bytes::Bytes;
use mortise_core::outcome::{Failure, Rejection, RejectionKind};
use prost::Message;
use tonic::{Code, Status};

use crate::v1::{self, ErrorCode, ErrorDetail, TookEffect};

const TYPE_URL: &str = "type.googleapis.com/mortise.v1.ErrorDetail";

impl ErrorDetail {
    /// An error that changed nothing and that the same request will meet again.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            retryable: false,
            took_effect: TookEffect::No.into(),
            leader_hint: String::new(),
            rejection: None,
            group: 0,
            groups: Vec::new(),
            oldest_sequence: 0,
        }
    }

    /// The same, but worth sending again.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The same, but nobody knows whether it took effect.
    #[must_use]
    pub fn effect_unknown(mut self) -> Self {
        self.took_effect = TookEffect::Unknown.into();
        self
    }

    /// A plugin's refusal.
    pub fn rejected(rejection: &Rejection) -> Self {
        Self {
            rejection: Some(v1::Rejection {
                kind: rejection.kind.name().into(),
                code: rejection.code.clone(),
                message: rejection.message.clone(),
            }),
            ..Self::new(ErrorCode::Rejected, rejection.message.clone())
        }
    }

    /// A plugin's failure.
    pub fn failed(failure: &Failure) -> Self {
        Self::new(ErrorCode::PluginFailed, failure.to_string())
    }

    /// The gRPC code that goes with it: see the table at `ErrorDetail` in common.proto.
    pub fn grpc_code(&self) -> Code {
        match self.code() {
            ErrorCode::Rejected => match self.rejection.as_ref().map_or("", |rejection| &rejection.kind) {
                "invalid" => Code::InvalidArgument,
                "conflict" => Code::Aborted,
                "missing" => Code::NotFound,
                "denied" => Code::PermissionDenied,
                "exhausted" => Code::ResourceExhausted,
                "unsupported" => Code::Unimplemented,
                _ => Code::Unknown,
            },
            ErrorCode::Invalid => Code::InvalidArgument,
            ErrorCode::NotFound => Code::NotFound,
            ErrorCode::AlreadyExists | ErrorCode::AlreadyAnswered => Code::AlreadyExists,
            ErrorCode::Unauthenticated => Code::Unauthenticated,
            ErrorCode::PermissionDenied => Code::PermissionDenied,
            ErrorCode::PluginFailed
            | ErrorCode::SessionExpired
            | ErrorCode::FailedPrecondition
            | ErrorCode::WrongCluster => Code::FailedPrecondition,
            ErrorCode::Overloaded | ErrorCode::TooLarge | ErrorCode::DiskFull => Code::ResourceExhausted,
            ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
            ErrorCode::Superseded | ErrorCode::Lost => Code::Aborted,
            ErrorCode::ShuttingDown | ErrorCode::NotLeader => Code::Unavailable,
            ErrorCode::Compacted => Code::OutOfRange,
            ErrorCode::Internal => Code::Internal,
            ErrorCode::Unspecified => Code::Unknown,
        }
    }

    /// The detail that a status carries, if it carries one.
    pub fn from_status(status: &Status) -> Option<Self> {
        let status = tonic_types::pb::Status::decode(status.details()).ok()?;
        let any = status.details.iter().find(|any| any.type_url == TYPE_URL)?;
        Self::decode(any.value.as_slice()).ok()
    }

    /// The plugin's refusal inside, if it is one that this release knows.
    pub fn to_rejection(&self) -> Option<Rejection> {
        let rejection = self.rejection.as_ref()?;
        let kind = match rejection.kind.as_str() {
            "invalid" => RejectionKind::Invalid,
            "conflict" => RejectionKind::Conflict,
            "missing" => RejectionKind::Missing,
            "denied" => RejectionKind::Denied,
            "exhausted" => RejectionKind::Exhausted,
            "unsupported" => RejectionKind::Unsupported,
            _ => return None,
        };
        Some(Rejection { kind, code: rejection.code.clone(), message: rejection.message.clone() })
    }
}

impl From<ErrorDetail> for Status {
    fn from(detail: ErrorDetail) -> Self {
        let code = detail.grpc_code();
        let message = detail.message.clone();
        let any = prost_types::Any { type_url: TYPE_URL.into(), value: detail.encode_to_vec() };
        let status =
            tonic_types::pb::Status { code: code.into(), message: message.clone(), details: vec![any] };
        Status::with_details(code, message, Bytes::from(status.encode_to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_survives_its_status() {
        let rejection =
            Rejection { kind: RejectionKind::Conflict, code: "version".into(), message: "it changed".into() };
        let detail = ErrorDetail::rejected(&rejection);
        let status = Status::from(detail.clone());
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(ErrorDetail::from_status(&status), Some(detail.clone()));
        assert_eq!(detail.to_rejection(), Some(rejection));
    }

    #[test]
    fn foreign_details_are_no_error_detail() {
        assert_eq!(ErrorDetail::from_status(&Status::new(Code::Internal, "x")), None);
        assert_eq!(
            ErrorDetail::from_status(&Status::with_details(Code::Internal, "x", Bytes::from_static(b"\xff"))),
            None
        );
    }
}
