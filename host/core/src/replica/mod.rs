//! A replica of a group, as a pure state machine.

mod effect;
mod epochs;
mod event;
mod message;
#[cfg(feature = "mutants")]
mod mutants;
mod options;
mod snapshot;
mod stored;

pub use effect::{CoordinatorRequest, Effect, Fate, Notice, Rare, ReadPermit, Refusal, Write, WriteId};
pub use epochs::EpochTable;
pub use event::{
    Ack, Event, Freshness, Memory, MonoTime, OperatorCommand, Proposal, Read, RequestId, Seen, SessionState,
    SwapOutcome,
};
pub use message::{Body, Fence, LogEntry, Message, Position, StreamId};
#[cfg(feature = "mutants")]
pub use mutants::Mutant;
pub use options::Options;
pub use snapshot::SnapshotMeta;
pub use stored::{HardState, Promise, Stored};
