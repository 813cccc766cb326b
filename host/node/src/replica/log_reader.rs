//! Reading the log back for followers: on a thread of its own, so that the driver never waits for the disk.

use std::sync::mpsc::{Receiver, Sender};

use mortise_core::group::NodeId;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{Event as CoreEvent, LogEntry, Position, StreamId};
use mortise_storage::{LogError, LogReader};

use super::driver::Event;

/// Entries that a follower needs.
pub(crate) struct ReadJob {
    pub(crate) peer: NodeId,
    pub(crate) stream: StreamId,
    pub(crate) first: LogIndex,
    pub(crate) last: LogIndex,
    pub(crate) bytes_max: usize,
}

/// Runs until there is nobody left to ask.
pub(crate) fn run(log: &LogReader, jobs: &Receiver<ReadJob>, events: &Sender<Event>) {
    for ReadJob { peer, stream, first, last, bytes_max } in jobs {
        let event = match log.read(first, bytes_max) {
            Ok(records) => {
                let records = records.into_iter().take_while(|record| record.index <= last);
                let entries = records.map(|record| LogEntry {
                    at: Position { epoch: record.epoch, index: record.index },
                    payload: record.payload,
                });
                Event::Outside(CoreEvent::LogRead { peer, stream, entries: entries.collect() })
            }
            // A snapshot took their place; the core sends that instead.
            Err(LogError::Dropped { .. }) => {
                Event::Outside(CoreEvent::LogRead { peer, stream, entries: Vec::new() })
            }
            Err(error) => Event::Fault(format!("read the log back: {error}")),
        };
        if events.send(event).is_err() {
            return;
        }
    }
}
