//! The apply thread: carries out committed entries in order, and begins snapshots between two of them.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use mortise_core::entry::Entry;
use tokio::sync::oneshot;

use super::api::{AdminError, SnapshotTaken};
use super::driver::Event;
use super::machine::Machine;
use super::snapshot::{SnapshotSource, Snapshots};

/// What the apply thread is told.
pub(crate) enum ApplyJob {
    /// The next committed entry.
    Entry(Arc<Entry>),
    /// Take a snapshot as of now; somebody may wait for it.
    Snapshot(Option<SnapshotReply>),
    /// Lend what a snapshot is made of, for an export.
    Source(oneshot::Sender<SnapshotSource>),
    /// Stop.
    Stop,
}

/// Where the result of a snapshot goes.
pub(crate) type SnapshotReply = oneshot::Sender<Result<SnapshotTaken, AdminError>>;

/// Runs until told to stop, or until a fault.
pub(crate) fn run(mut machine: Machine, jobs: &Receiver<ApplyJob>, events: &Sender<Event>) {
    let snapshots = Snapshots::new(machine.shared.clone(), events.clone());
    while let Ok(job) = jobs.recv() {
        match job {
            ApplyJob::Entry(entry) => match machine.apply(&entry) {
                Ok(result) => {
                    // The driver is gone only when the replica stops.
                    let _ = events.send(Event::Applied(entry.index, result));
                    if let Err(fault) = machine.warm(entry.index) {
                        return stop(events, fault.into());
                    }
                }
                Err(fault) => return stop(events, fault.into()),
            },
            ApplyJob::Snapshot(reply) => snapshots.take(SnapshotSource::of(&machine.shared), reply),
            ApplyJob::Source(reply) => drop(reply.send(SnapshotSource::of(&machine.shared))),
            ApplyJob::Stop => return,
        }
    }
}

fn stop(events: &Sender<Event>, fault: anyhow::Error) {
    let _ = events.send(Event::Fault(format!("apply: {fault:#}")));
}
