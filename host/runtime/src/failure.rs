//! Which failures are the same on every replica, and which are this machine's own.
//!
//! | what wasmtime returns | what it becomes |
//! | --- | --- |
//! | a [`Trap`] of this module's list | [`Failure::Trapped`], with this module's words |
//! | out of fuel, stack overflow; a failure after growth was refused | [`Failure::LimitExceeded`] |
//! | a host function's [`Stop::Limit`] | [`Failure::LimitExceeded`] |
//! | an error without a type of its own, a failed text or integer conversion | [`Failure::Trapped`]: see [`ABI`] |
//! | anything else: out of memory, an I/O error, a bug in wasmtime, a trap not listed | [`LocalFault`] |

use mortise_core::outcome::{Failure, Limit};
use mortise_core::state::StateError;
use wasmtime::Trap;

use crate::bulk::StreamError;

/// The guest gave the host bytes that its types forbid: a pointer out of its memory, text that is not UTF-8, an
/// unknown discriminant, a borrowed handle kept. wasmtime reports these as plain messages. During a call it reports
/// nothing else so: memory and system failures have types.
const ABI: &str = "canonical ABI violated";

/// This machine failed, not the plugin: nothing is recorded, and the replica stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalFault {
    /// The state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was given to read a snapshot from, or to write it to, failed.
    #[error("transfer snapshot: {0}")]
    Stream(#[source] StreamError),
    /// All instances of the pool are in use.
    #[error("make a plugin instance: all {instances} are in use; raise the runtime's pool_instances")]
    PoolFull {
        /// How many there are.
        instances: u32,
    },
    /// No instance could be made.
    #[error("make a plugin instance: {0}")]
    Instantiate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The system gave no memory to a guest that was allowed to have it.
    #[error("grow a plugin's memory: {0}")]
    Memory(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A call failed in a way that is not known to be deterministic.
    #[error("call a plugin: {0}")]
    Call(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The thread for a bulk call could not be started, or panicked.
    #[error("run a bulk call: {0}")]
    Thread(String),
}

/// Why a host function ends the call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("limit {}", .0.name())]
    Limit(Limit),
    #[error(transparent)]
    Fault(LocalFault),
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::Fault(error.into())
    }
}

/// What a failed call means. `refused` is the limit at which growth was refused during the call, if any: a guest
/// that is told so usually aborts, and the limit says more than the abort.
pub(crate) fn classify(error: wasmtime::Error, refused: Option<Limit>) -> Result<Failure, LocalFault> {
    let error = match error.downcast::<Stop>() {
        Ok(Stop::Limit(limit)) => return Ok(Failure::LimitExceeded { limit }),
        Ok(Stop::Fault(fault)) => return Err(fault),
        Err(error) => error,
    };
    let failure = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Failure::LimitExceeded { limit: Limit::Fuel },
        Some(Trap::StackOverflow) => Failure::LimitExceeded { limit: Limit::Stack },
        Some(trap) => match reason(*trap) {
            Some(reason) => trapped(reason),
            None => return Err(LocalFault::Call(error.into())),
        },
        None if breaks_abi(&error) => trapped(ABI),
        None => return Err(LocalFault::Call(error.into())),
    };
    Ok(match (failure, refused) {
        (Failure::Trapped { .. }, Some(limit)) => Failure::LimitExceeded { limit },
        (failure, _) => failure,
    })
}

fn trapped(reason: &str) -> Failure {
    Failure::Trapped { reason: reason.to_owned() }
}

/// Our words for a trap, which no wasmtime release can change; `None` where a trap cannot come from a guest of
/// ours, or not deterministically.
fn reason(trap: Trap) -> Option<&'static str> {
    Some(match trap {
        Trap::UnreachableCodeReached => "unreachable code reached",
        Trap::MemoryOutOfBounds => "memory access out of bounds",
        Trap::TableOutOfBounds => "table access out of bounds",
        Trap::IndirectCallToNull => "indirect call to nothing",
        Trap::BadSignature => "indirect call with a wrong type",
        Trap::IntegerOverflow => "integer overflow",
        Trap::IntegerDivisionByZero => "integer division by zero",
        Trap::BadConversionToInteger => "float not convertible to integer",
        Trap::NullReference => "null reference",
        Trap::CannotEnterComponent | Trap::CannotLeaveComponent => "call not allowed here",
        Trap::InvalidChar
        | Trap::StringOutOfBounds
        | Trap::ListOutOfBounds
        | Trap::InvalidDiscriminant
        | Trap::UnalignedPointer => ABI,
        _ => return None,
    })
}

fn breaks_abi(error: &wasmtime::Error) -> bool {
    error.is::<&'static str>()
        || error.is::<String>()
        || error.is::<std::str::Utf8Error>()
        || error.is::<std::string::FromUtf8Error>()
        || error.is::<std::char::DecodeUtf16Error>()
        || error.is::<std::char::CharTryFromError>()
        || error.is::<std::num::TryFromIntError>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deterministic_causes_become_failures_and_all_others_local_faults() {
        let limit = |limit| Failure::LimitExceeded { limit };
        let story: [(wasmtime::Error, Option<Limit>, Option<Failure>); 9] = [
            (Trap::OutOfFuel.into(), None, Some(limit(Limit::Fuel))),
            (Trap::StackOverflow.into(), Some(Limit::Memory), Some(limit(Limit::Stack))),
            (Trap::UnreachableCodeReached.into(), None, Some(trapped("unreachable code reached"))),
            (Trap::UnreachableCodeReached.into(), Some(Limit::Table), Some(limit(Limit::Table))),
            (wasmtime::Error::new(Stop::Limit(Limit::KeyBytes)), None, Some(limit(Limit::KeyBytes))),
            (wasmtime::Error::msg("pointer out of bounds of memory"), None, Some(trapped(ABI))),
            (Trap::Interrupt.into(), None, None),
            (std::io::Error::from(std::io::ErrorKind::OutOfMemory).into(), Some(Limit::Memory), None),
            (StateError("disk".into()).into(), None, None),
        ];
        for (error, refused, expected) in story {
            let text = format!("{error:?}");
            assert_eq!(classify(error, refused).ok(), expected, "{text}");
        }
    }
}
