//! The apply thread: carries out committed entries in order, and begins snapshots between two of them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use mortise_core::entry::Entry;
use mortise_core::group::Generation;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{LogEntry, Position};
use mortise_storage::StateId;
use mortise_storage::log::LogReader;
use tokio::sync::oneshot;

use super::answers::Waiting;
use super::api::{AdminError, SnapshotTaken};
use super::driver::Event;
use super::machine::{EntryResult, Machine};
use super::snapshot::{SnapshotSource, Snapshots};
use super::tables::Tables;

/// What the apply thread is told.
pub(crate) enum ApplyJob {
    /// The next committed entry, and whom to answer.
    Entry(Arc<Entry>, Waiting),
    /// The next committed entry, as it lies in the log.
    Encoded(LogEntry),
    /// The next committed entries are to be read from the log.
    Logged {
        /// The first of them.
        first: LogIndex,
        /// The last of them.
        last: LogIndex,
    },
    /// Take a snapshot as of now, of a history of this generation; somebody may wait for it.
    Snapshot(Generation, Option<SnapshotReply>),
    /// A state restored from a snapshot, with its tables, takes the place of the present one.
    Replace(StateId, Box<Tables>),
    /// The state that was replaced will not be needed after a crash either.
    Discard(StateId),
    /// Lend what a snapshot is made of, for an export.
    Source(oneshot::Sender<SnapshotSource>),
    /// Stop.
    Stop,
}

/// Where the result of a snapshot goes.
pub(crate) type SnapshotReply = oneshot::Sender<Result<SnapshotTaken, AdminError>>;

/// Bytes of log read at once.
const READ_BYTES: usize = 8 << 20;
/// How often a long way through the log says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// The apply thread.
pub(crate) struct Apply {
    pub(crate) machine: Machine,
    pub(crate) log: LogReader,
    pub(crate) events: Sender<Event>,
}

impl Apply {
    /// Runs until told to stop, or until a fault.
    pub(crate) fn run(mut self, jobs: &Receiver<ApplyJob>) {
        let snapshots = Snapshots::new(self.machine.shared.clone(), self.events.clone());
        while let Ok(job) = jobs.recv() {
            // Outlives the work on its entry: whoever a fault leaves in it is told that fault.
            let mut waiting = None;
            let done = match job {
                ApplyJob::Entry(entry, whom) => self.entry(&entry, Some(waiting.insert(whom))),
                ApplyJob::Encoded(LogEntry { at, payload }) => self.encoded(at, payload),
                ApplyJob::Logged { first, last } => self.logged(first, last),
                ApplyJob::Snapshot(generation, reply) => {
                    snapshots.take(SnapshotSource::of(&self.machine.shared), generation, reply);
                    Ok(())
                }
                ApplyJob::Replace(state, tables) => {
                    self.machine.replace(state, *tables);
                    Ok(())
                }
                ApplyJob::Discard(state) => {
                    self.machine.shared.discard(state);
                    Ok(())
                }
                ApplyJob::Source(reply) => {
                    // Whoever exports may be gone.
                    let _ = reply.send(SnapshotSource::of(&self.machine.shared));
                    Ok(())
                }
                ApplyJob::Stop => return,
            };
            if let Err(fault) = done {
                let reason = format!("apply: {fault:#}");
                // Before those who wait, here and in the queue, are dropped and told why.
                self.machine.shared.set_fault(&reason);
                let _ = self.events.send(Event::Fault(reason));
                return;
            }
        }
    }

    /// Carries an entry out, and answers those who wait here.
    fn entry(&mut self, entry: &Entry, waiting: Option<&mut Waiting>) -> anyhow::Result<()> {
        let result = self.machine.apply(entry)?;
        if let (Some(waiting), EntryResult::Commands(results)) = (waiting, &result) {
            waiting.answer(Position { epoch: entry.epoch, index: entry.index }, results);
        }
        let (state, digest) = (self.machine.shared.state(), self.machine.shared.tables().applied.digest);
        // The driver is gone only when the replica stops.
        let _ = self.events.send(Event::Applied { state, index: entry.index, digest, result });
        Ok(self.machine.warm(entry.index)?)
    }

    /// An entry that this replica did not propose.
    fn encoded(&mut self, at: Position, payload: Bytes) -> anyhow::Result<()> {
        let entry = Entry::decode(at.epoch, at.index, payload);
        self.entry(&entry.with_context(|| format!("entry {} of the log", at.index))?, None)
    }

    /// Entries that this replica did not propose, or not in this life.
    fn logged(&mut self, first: LogIndex, last: LogIndex) -> anyhow::Result<()> {
        let (start, mut reported) = (Instant::now(), Instant::now());
        let mut next = first;
        while next <= last {
            let records = self.log.read(next, READ_BYTES)?;
            anyhow::ensure!(!records.is_empty(), "entry {next} is not in the log");
            for record in records.into_iter().take_while(|record| record.index <= last) {
                self.encoded(Position { epoch: record.epoch, index: record.index }, record.payload)?;
                next = record.index.next();
            }
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                tracing::info!(at = next.0, last = last.0, "applying the log");
            }
        }
        if start.elapsed() >= REPORT_EVERY {
            tracing::info!(entries = next.0 - first.0, took = ?start.elapsed(), "applied the log");
        }
        Ok(())
    }
}
