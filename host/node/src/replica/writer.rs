//! The log writer: one thread that appends and fsyncs, for as many records at a time as have gathered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use mortise_core::ids::LogIndex;
use mortise_storage::log::{Log, LogError, LogRecord};

use super::driver::Event;
use super::shared::Shared;

/// What the log writer is told.
pub(crate) enum WriterJob {
    /// Make these durable, then report [`Event::Flushed`].
    Append(Vec<LogRecord>),
    /// A snapshot and the state, both fsynced, cover everything below this index.
    DropBelow(LogIndex),
    /// Stop.
    Stop,
}

/// Runs until told to stop, or until the log fails: a failed fsync is never tried again, because the pages may be
/// gone.
pub(crate) fn run(mut log: Log, shared: &Arc<Shared>, jobs: &Receiver<WriterJob>, events: &Sender<Event>) {
    loop {
        let done = match next(&mut log, jobs) {
            Ok(WriterJob::Append(records)) => append(&mut log, &records, shared).map(|last| {
                // The driver is gone only when the replica stops.
                let _ = events.send(Event::Flushed(last));
            }),
            Ok(WriterJob::DropBelow(index)) => log.drop_below(index).map(|()| note_extent(&log, shared)),
            Ok(WriterJob::Stop) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            shared.metrics.fsync_failed();
            let _ = events.send(Event::Fault(format!("write the log: {:#}", anyhow::Error::from(error))));
            return;
        }
    }
}

/// The next job. Where none waits, the log first gets its zeros: whoever waits for the last one has its answer.
fn next(log: &mut Log, jobs: &Receiver<WriterJob>) -> Result<WriterJob, LogError> {
    if jobs.is_empty() {
        log.fill_ahead()?;
    }
    // The driver is gone only when the replica stops.
    Ok(jobs.recv().unwrap_or(WriterJob::Stop))
}

fn append(log: &mut Log, records: &[LogRecord], shared: &Shared) -> Result<LogIndex, LogError> {
    log.append(records)?;
    let start = Instant::now();
    log.sync()?;
    let bytes = records.iter().map(|record| record.payload.len()).sum();
    shared.metrics.fsync(start.elapsed(), records.len(), bytes);
    note_extent(log, shared);
    Ok(records.last().map_or(log.last_index(), |record| record.index))
}

/// Publishes where the log begins and how large it is.
pub(crate) fn note_extent(log: &Log, shared: &Shared) {
    shared.positions.log_first.store(log.first_index().0, Ordering::Relaxed);
    shared.positions.log_bytes.store(log.bytes(), Ordering::Relaxed);
}
