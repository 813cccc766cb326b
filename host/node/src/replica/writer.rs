//! The log writer: one thread that writes and fsyncs, for as much at a time as has gathered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use mortise_core::ids::LogIndex;
use mortise_core::replica::{Event as CoreEvent, LogAtInstall, LogEntry, SnapshotMeta, Write, WriteId};
use mortise_storage::log::{Log, LogRecord, remove_log};
use mortise_storage::snapshot::{keep_aside, list_snapshots};
use mortise_storage::{Current, SmallFile, StateId};

use super::driver::{DriverHandle, Event};
use super::shared::Shared;
use super::snapshot::snapshot_name;

/// The file of a replica's small state, in its data folder.
pub(crate) const HARD_STATE_FILE: &str = "REPLICA";

/// What the log writer is told.
pub(crate) enum WriterJob {
    /// Make these durable, then tell the driver with the last one.
    Write(Vec<(WriteId, Write)>),
    /// Publish a state that was restored from a snapshot, then tell the driver.
    Install {
        /// The write.
        id: WriteId,
        /// What the snapshot holds.
        meta: SnapshotMeta,
        /// What becomes of the log.
        log: LogAtInstall,
        /// The state in the database.
        state: StateId,
    },
    /// A snapshot and the state, both fsynced, cover everything below this index.
    DropBelow(LogIndex),
    /// Stop.
    Stop,
}

/// What the log writer writes.
pub(crate) struct Files {
    pub(crate) log: Log,
    pub(crate) hard: SmallFile,
    pub(crate) current: Current,
}

/// Runs until told to stop, or until the log fails: a failed fsync is never tried again, because the pages may be
/// gone.
pub(crate) fn run(
    mut files: Files,
    shared: &Arc<Shared>,
    jobs: &Receiver<WriterJob>,
    driver: &DriverHandle,
    events: &Sender<Event>,
) {
    let durable = |write| {
        if !driver.durable(write) {
            // The driver is gone only when the replica stops.
            let _ = events.send(Event::Durable(write));
        }
    };
    loop {
        let done = match next(&mut files, jobs) {
            Ok(WriterJob::Write(writes)) => files.write(writes, shared).map(durable),
            Ok(WriterJob::Install { id, meta, log, state }) => {
                files.install(&meta, log, state, shared).map(|()| durable(id))
            }
            Ok(WriterJob::DropBelow(index)) => files.drop_below(index, shared).map(|()| {
                let first = files.log.first_index();
                // As above.
                let _ = events.send(Event::Outside(CoreEvent::LogDropped { first }));
            }),
            Ok(WriterJob::Stop) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            shared.metrics.fsync_failed();
            let _ = events.send(Event::Fault(format!("write the log: {error:#}")));
            return;
        }
    }
}

/// The next job. Where none waits, the log first gets its zeros: whoever waits for the last one has its answer.
fn next(files: &mut Files, jobs: &Receiver<WriterJob>) -> anyhow::Result<WriterJob> {
    if let Ok(job) = jobs.try_recv() {
        return Ok(job);
    }
    files.log.fill_ahead()?;
    // The driver is gone only when the replica stops.
    Ok(jobs.recv().unwrap_or(WriterJob::Stop))
}

impl Files {
    /// Carries out writes in their order, with one fsync of the log where they only append.
    fn write(&mut self, writes: Vec<(WriteId, Write)>, shared: &Shared) -> anyhow::Result<WriteId> {
        let mut last = WriteId(0);
        let mut unsynced = (0, 0);
        for (id, write) in writes {
            last = id;
            match write {
                Write::Append(entries) => {
                    unsynced.0 += entries.len();
                    unsynced.1 += entries.iter().map(|entry| entry.payload.len()).sum::<usize>();
                    let records: Vec<LogRecord> = entries.into_iter().map(record).collect();
                    self.log.append(&records)?;
                }
                Write::Truncate { after } => self.log.truncate_after(after)?,
                Write::Save(hard) => {
                    // What was appended before must not be younger than the state that speaks of it.
                    self.log.sync()?;
                    self.hard.replace(&hard.encode())?;
                }
                Write::Install { .. } => anyhow::bail!("an install came among other writes"),
            }
        }
        let start = Instant::now();
        self.log.sync()?;
        if unsynced.0 > 0 {
            shared.metrics.fsync(start.elapsed(), unsynced.0, unsynced.1);
        }
        note_extent(&self.log, shared);
        Ok(last)
    }

    /// Log and state change in one step: a crash finds both as they were, or both as they shall be.
    fn install(
        &mut self,
        meta: &SnapshotMeta,
        log: LogAtInstall,
        state: StateId,
        shared: &Shared,
    ) -> anyhow::Result<()> {
        self.log.sync()?;
        let (old, folder) = (self.current.log, self.log.folder().to_owned());
        self.current.state = state;
        if log != LogAtInstall::Stays {
            self.current.log = self.current.kept.iter().copied().fold(old, u64::max).saturating_add(1);
            self.log.begin_anew(&self.current.log_folder(), meta.last.index, meta.last.epoch)?;
        }
        if log == LogAtInstall::IsKeptAside {
            self.current.kept.push(old);
        }
        self.current.publish(&shared.disk)?;
        note_extent(&self.log, shared);
        match log {
            LogAtInstall::Stays => {}
            LogAtInstall::BeginsAnew => remove_log(shared.disk.as_ref(), &folder)?,
            LogAtInstall::IsKeptAside => {
                tracing::warn!(folder, "a new history began: the old log is kept");
                keep_other_snapshots(shared, &snapshot_name(meta.last.index))?;
            }
        }
        shared.positions.snapshot.store(meta.last.index.0, Ordering::Relaxed);
        Ok(())
    }

    fn drop_below(&mut self, index: LogIndex, shared: &Shared) -> anyhow::Result<()> {
        self.log.drop_below(index)?;
        note_extent(&self.log, shared);
        Ok(())
    }
}

/// Snapshots of a history that was given up must not be taken for such of the present one.
fn keep_other_snapshots(shared: &Shared, name: &str) -> anyhow::Result<()> {
    let disk = shared.disk.as_ref();
    for other in list_snapshots(disk)?.iter().filter(|other| *other != name) {
        keep_aside(disk, other)?;
    }
    Ok(())
}

fn record(entry: LogEntry) -> LogRecord {
    LogRecord { epoch: entry.at.epoch, index: entry.at.index, payload: entry.payload }
}

/// Publishes where the log begins and how large it is.
pub(crate) fn note_extent(log: &Log, shared: &Shared) {
    shared.positions.log_first.store(log.first_index().0, Ordering::Relaxed);
    shared.positions.log_bytes.store(log.bytes(), Ordering::Relaxed);
}
