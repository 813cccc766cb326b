//! What became of a command.

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, Writer};

/// Why a plugin refused. Each has one gRPC code, given here in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectionKind {
    /// The command or request is malformed (INVALID_ARGUMENT).
    Invalid,
    /// The state is not as the command requires (ABORTED).
    Conflict,
    /// What it names does not exist (NOT_FOUND).
    Missing,
    /// The caller may not do this (PERMISSION_DENIED).
    Denied,
    /// A bound was reached (RESOURCE_EXHAUSTED).
    Exhausted,
    /// The plugin does not know how (UNIMPLEMENTED).
    Unsupported,
}

impl RejectionKind {
    const ALL: [Self; 6] =
        [Self::Invalid, Self::Conflict, Self::Missing, Self::Denied, Self::Exhausted, Self::Unsupported];

    /// The kind's name as the WIT has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::Missing => "missing",
            Self::Denied => "denied",
            Self::Exhausted => "exhausted",
            Self::Unsupported => "unsupported",
        }
    }

    fn decode(byte: u8) -> Result<Self, DecodeError> {
        Self::ALL
            .get(usize::from(byte))
            .copied()
            .ok_or(DecodeError::Unknown { what: "rejection kind", value: byte.into() })
    }
}

/// A plugin's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why, in one of six ways.
    pub kind: RejectionKind,
    /// The plugin's own code, for programs.
    pub code: String,
    /// For people.
    pub message: String,
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.kind.name(), self.code, self.message)
    }
}

/// A limit of the [`crate::profile::Profile`] that a call can pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Fuel for one call.
    Fuel,
    /// Bytes of a guest's linear memory.
    Memory,
    /// Elements of a guest's tables.
    Table,
    /// Bytes of a guest's stack.
    Stack,
    /// Bytes of a key.
    KeyBytes,
    /// Bytes of a value.
    ValueBytes,
    /// Bytes a call writes.
    WriteBytes,
    /// Bytes a call reads or scans.
    ReadBytes,
    /// Bytes of a reply.
    ReplyBytes,
}

impl Limit {
    const ALL: [Self; 9] = [
        Self::Fuel,
        Self::Memory,
        Self::Table,
        Self::Stack,
        Self::KeyBytes,
        Self::ValueBytes,
        Self::WriteBytes,
        Self::ReadBytes,
        Self::ReplyBytes,
    ];

    /// The limit's name: that of the profile's field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::Memory => "memory_bytes_max",
            Self::Table => "table_elements_max",
            Self::Stack => "stack_bytes_max",
            Self::KeyBytes => "key_bytes_max",
            Self::ValueBytes => "value_bytes_max",
            Self::WriteBytes => "write_bytes_max",
            Self::ReadBytes => "read_bytes_max",
            Self::ReplyBytes => "reply_bytes_max",
        }
    }
}

/// Why a call failed in a way that is the same on every replica, without the plugin having refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The plugin trapped: unreachable code (a Rust panic), an access out of bounds, arithmetic.
    Trapped {
        /// What wasmtime says of the trap, in a few words that are the same everywhere.
        reason: String,
    },
    /// A limit of the profile was passed.
    LimitExceeded {
        /// Which.
        limit: Limit,
    },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trapped { reason } => write!(f, "the plugin trapped: {reason}"),
            Self::LimitExceeded { limit } => write!(f, "the plugin passed its limit {}", limit.name()),
        }
    }
}

/// What became of a command: recorded in the session table, and the same on every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect. The plugin's reply.
    Applied(Bytes),
    /// The plugin refused; nothing was written.
    Rejected(Rejection),
    /// The plugin failed; nothing was written.
    Failed(Failure),
}

impl Outcome {
    /// Whether the command's writes stand.
    pub fn took_effect(&self) -> bool {
        matches!(self, Self::Applied(_))
    }

    /// About how many bytes it takes to keep.
    pub fn size(&self) -> usize {
        16 + match self {
            Self::Applied(reply) => reply.len(),
            Self::Rejected(rejection) => rejection.code.len() + rejection.message.len(),
            Self::Failed(Failure::Trapped { reason }) => reason.len(),
            Self::Failed(Failure::LimitExceeded { .. }) => 0,
        }
    }

    /// Appends the outcome.
    pub fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Applied(reply) => {
                writer.u8(0).bytes(reply);
            }
            Self::Rejected(rejection) => {
                writer.u8(1).u8(rejection.kind as u8);
                writer.bytes(rejection.code.as_bytes()).bytes(rejection.message.as_bytes());
            }
            Self::Failed(Failure::Trapped { reason }) => {
                writer.u8(2).bytes(reason.as_bytes());
            }
            Self::Failed(Failure::LimitExceeded { limit }) => {
                writer.u8(3).u8(*limit as u8);
            }
        }
    }

    /// Reads an outcome.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8("outcome")? {
            0 => Self::Applied(reader.bytes("reply")?),
            1 => Self::Rejected(Rejection {
                kind: RejectionKind::decode(reader.u8("rejection kind")?)?,
                code: reader.string("rejection code")?,
                message: reader.string("rejection message")?,
            }),
            2 => Self::Failed(Failure::Trapped { reason: reader.string("trap reason")? }),
            3 => {
                let byte = reader.u8("limit")?;
                let limit = Limit::ALL.get(usize::from(byte)).copied();
                let limit = limit.ok_or(DecodeError::Unknown { what: "limit", value: byte.into() })?;
                Self::Failed(Failure::LimitExceeded { limit })
            }
            value => return Err(DecodeError::Unknown { what: "outcome", value: value.into() }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_comes_back_as_written() {
        let rejections = RejectionKind::ALL.map(|kind| {
            Outcome::Rejected(Rejection { kind, code: "insufficient".into(), message: "no funds".into() })
        });
        let limits = Limit::ALL.map(|limit| Outcome::Failed(Failure::LimitExceeded { limit }));
        let others = [
            Outcome::Applied(Bytes::from_static(b"ok")),
            Outcome::Failed(Failure::Trapped { reason: "unreachable".into() }),
        ];
        for outcome in rejections.into_iter().chain(limits).chain(others) {
            let mut writer = Writer::default();
            outcome.encode(&mut writer);
            let mut reader = Reader::new(writer.finish());
            assert_eq!(Outcome::decode(&mut reader).unwrap(), outcome);
            reader.finish().unwrap();
        }
    }
}
