//! Opening a data folder: recovery, replay, and the start of the replica's threads.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use mortise_core::codec::DecodeError;
use mortise_core::entry::Stamp;
use mortise_core::group::{BootId, Incarnation, NodeId, RecordError};
use mortise_core::ids::{Epoch, LogIndex};
use mortise_core::replica::{EpochTable, HardState, Options, Position, Replica as Core, Stored};
use mortise_runtime::{NATIVE_STACK_BYTES_MIN, Runtime};
use mortise_storage::disk::Disk;
use mortise_storage::snapshot::{list_snapshots, remove_leftovers};
use mortise_storage::{
    Current, DataFolder, FolderError, Log, LogError, LogOptions, SmallFile, SmallFileError, SnapshotReader,
    StateDb, StateDbError, StateDbOptions, StateId,
};
use tokio::sync::oneshot;

use super::apply::Apply;
use super::driver::{Channels, Driver, DriverCell};
use super::machine::{Fault, Machine};
use super::options::ReplicaOptions;
use super::outside::{self, Alone, Inbox, Outside};
use super::query::Queries;
use super::shared::{Shared, lock, uptime};
use super::snapshot::{SnapshotError, restore_group};
use super::tables::{Tables, TablesError};
use super::writer::{Files, HARD_STATE_FILE, note_extent};
use super::{Replica, WriteError, janitor, log_reader, writer};
use crate::config::ConfigError;
use crate::groups::Directory;
use crate::metrics::Metrics;

/// Bytes of log read at once to find where epochs begin.
const SCAN_BYTES: usize = 8 << 20;

/// Why a replica could not start. Nothing was deleted. What to do about lost or damaged data depends on who else has it: see
/// [`StartError::advice`].
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The log is damaged, or cannot be read or written.
    #[error("open the log: {0}")]
    Log(#[from] LogError),
    /// The state database cannot be opened.
    #[error(
        "open the state: {0}; the log and the snapshots are the truth: move the folder `state` aside, and the next \
         start rebuilds it from them"
    )]
    State(#[from] StateDbError),
    /// The tables in the state are damaged.
    #[error("{0}; move the folder `state` aside, and the next start rebuilds it from snapshot and log")]
    Tables(#[from] TablesError),
    /// A snapshot folder cannot be read.
    #[error(transparent)]
    Snapshots(#[from] mortise_storage::SnapshotError),
    /// The log begins behind what the state holds, and no snapshot closes the gap.
    #[error(
        "the log begins at entry {first}, the state ends at {applied}, and no snapshot reaches from one to the \
         other{tried}"
    )]
    Gap {
        /// First index of the log.
        first: LogIndex,
        /// The state's last index.
        applied: LogIndex,
        /// What was wrong with the snapshots there are.
        tried: String,
    },
    /// The state knows entries that the log has lost.
    #[error(
        "the log ends at entry {last}, but the state holds entries up to {applied}: the log has lost what was \
         acknowledged"
    )]
    LogLost {
        /// Last index of the log.
        last: LogIndex,
        /// The state's last index.
        applied: LogIndex,
    },
    /// The replica's small state cannot be read.
    #[error("read the replica's state of its group: {0}")]
    HardState(#[from] SmallFileError),
    /// The replica's small state says what it cannot.
    #[error("read the replica's state of its group: {0}")]
    Malformed(#[from] DecodeError),
    /// There is a log without the small state that belongs to it.
    #[error("the file `{HARD_STATE_FILE}` is missing beside a log that ends at entry {last}")]
    HardStateLost {
        /// Last index of the log.
        last: LogIndex,
    },
    /// What a node of a cluster remembers of itself cannot be read or written.
    #[error("what the node remembers of itself: {0}")]
    Remembered(SmallFileError),
    /// The record of a group of one cannot be.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A snapshot does not restore.
    #[error("restore the state: {0}")]
    Restore(#[from] Fault),
    /// The system gives no random number.
    #[error("ask the system for a random number: {0}")]
    Random(getrandom::Error),
    /// A thread cannot be started.
    #[error("start a thread: {0}")]
    Thread(std::io::Error),
    /// A file of the node cannot be read or written, or its settings cannot be honoured.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Recovery crashed.
    #[error("recovery crashed: {0}")]
    Crashed(String),
    /// The replica stopped while it started.
    #[error("begin to lead: {0}")]
    Begin(WriteError),
}

/// A replica's place in a group that a coordinator keeps a record of. A replica without one is alone, and leads.
pub(crate) struct Member {
    /// The Mortise cluster.
    pub(crate) cluster: u64,
    /// This node.
    pub(crate) node: NodeId,
    /// This process.
    pub(crate) boot: BootId,
    /// The incarnation of a store that is made now; `None`: a random one.
    pub(crate) fresh: Option<Incarnation>,
    /// The data folder is known to be older than what this node once had: its copy does not count.
    pub(crate) restored: bool,
    /// Where the nodes are.
    pub(crate) directory: Directory,
    /// The times that the group keeps.
    pub(crate) times: Times,
    /// Makes its way to the others.
    pub(crate) outside: Box<dyn FnOnce(Inbox) -> Arc<dyn Outside> + Send>,
}

/// See the section [cluster] of the configuration. In microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) beacon: u64,
    pub(crate) shrink_after: u64,
    pub(crate) grace: u64,
}

/// What to do about data that is lost or damaged, where no other node has it.
const ADVICE_ALONE: &str = ": restore the data folder from a copy";
/// The same where the other members of the group have it.
const ADVICE_MEMBER: &str =
    ": move the group's folder away, and the node gets the data anew from the other members";
/// The same of a node's own file.
const ADVICE_NODE: &str =
    ": give the node an empty data folder, and it gets its groups' data anew from the other members";

impl StartError {
    /// What to do about it, beyond what it says by itself, to be put behind that. `alone`: no other node has the data.
    pub fn advice(&self, alone: bool) -> &'static str {
        match self {
            Self::Remembered(SmallFileError::Damaged { .. }) => ADVICE_NODE,
            // They say it themselves.
            Self::Tables(_) | Self::Restore(_) => "",
            error if error.is_damage() && alone => ADVICE_ALONE,
            error if error.is_damage() => ADVICE_MEMBER,
            _ => "",
        }
    }

    /// Whether what lies in the data folder is at fault: another copy of the data would do.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Log(error) => error.is_damage(),
            Self::Tables(TablesError::Damaged { .. })
            | Self::Gap { .. }
            | Self::LogLost { .. }
            | Self::HardState(SmallFileError::Damaged { .. })
            | Self::Malformed(_)
            | Self::HardStateLost { .. }
            | Self::Restore(Fault::Snapshot(_)) => true,
            _ => false,
        }
    }
}

/// The replica's threads, and what they need until the last one is gone.
pub(crate) struct Threads {
    running: Mutex<Option<Running>>,
}

struct Running {
    handles: Vec<JoinHandle<()>>,
    janitor: SyncSender<()>,
    db: StateDb,
}

impl Threads {
    /// Waits until every thread has ended.
    pub(crate) fn join(&self) {
        let Some(running) = lock(&self.running).take() else { return };
        drop(running.janitor);
        for handle in running.handles {
            if handle.join().is_err() {
                tracing::error!("a thread of the replica panicked");
            }
        }
        if let Err(error) = running.db.persist() {
            // The log has it all.
            tracing::warn!(%error, "persist the state while stopping");
        }
    }
}

/// See [`Replica::start`].
pub(crate) fn start(
    options: ReplicaOptions,
    disk: Option<Arc<dyn Disk>>,
    runtime: Runtime,
    metrics: Arc<Metrics>,
    member: Option<Member>,
) -> Result<Replica, StartError> {
    let folder = DataFolder::open(&options.data)?;
    let disk = disk.unwrap_or_else(|| folder.disk());
    for name in remove_leftovers(disk.as_ref())? {
        tracing::warn!(name, "removed an unfinished snapshot");
    }
    let current = Current::read(&disk)?;
    for folder in current.remove_other_logs(disk.as_ref())? {
        tracing::warn!(folder, "removed a log that a snapshot had replaced");
    }
    let layout = LogOptions {
        folder: current.log_folder(),
        segment_bytes: options.segment_bytes,
        ..LogOptions::default()
    };
    let (log, recovery) = Log::open(disk.clone(), layout)?;
    if let Some(torn) = &recovery.torn {
        tracing::warn!(
            file = torn.file,
            offset = torn.offset,
            bytes = torn.bytes,
            "cut a torn tail of the log"
        );
    }
    let db = StateDb::open(&folder.state_path(), StateDbOptions::default())?;
    let directory = member.as_ref().map(|member| member.directory.clone()).unwrap_or_default();
    let states = db.states()?;
    let newest_state = states.last().map_or(current.state, |last| current.state.max(*last));
    let tables = recover_tables(&options, &db, current.state, disk.as_ref(), &runtime, &log)?;
    let shared = Arc::new(Shared::new(
        options,
        folder,
        disk,
        runtime,
        metrics,
        (db, current.state, tables),
        directory,
    ));
    states.into_iter().filter(|state| *state != current.state).for_each(|state| shared.discard(state));
    shared.check_disk();
    note_extent(&log, &shared);
    note_snapshot(&shared)?;
    let hard = SmallFile::new(shared.disk.clone(), HARD_STATE_FILE);
    let fresh = member.as_ref().and_then(|member| member.fresh);
    let mut stored = stored(&shared, &log, &hard, fresh)?;
    stored.intact &= !member.as_ref().is_some_and(|member| member.restored);
    launch(shared, Files { log, hard, current }, stored, newest_state, member)
}

/// What the data folder holds, as the core wants to know it.
fn stored(
    shared: &Shared,
    log: &Log,
    hard: &SmallFile,
    fresh: Option<Incarnation>,
) -> Result<Stored, StartError> {
    let saved = hard.read()?.map(HardState::decode).transpose()?;
    let (first, last) = (log.first_index(), log.last_index());
    let tables = shared.tables();
    let state = match saved {
        Some(saved) => saved,
        None if last > LogIndex(0) => return Err(StartError::HardStateLost { last }),
        None => {
            let incarnation = fresh.map_or_else(draw_incarnation, Ok)?;
            let made = HardState { incarnation, ..HardState::default() };
            // Durable before anybody can count on it.
            hard.replace(&made.encode())?;
            made
        }
    };
    let mut epochs: Vec<(Epoch, LogIndex)> =
        tables.epochs.iter().map(|(epoch, start)| (*epoch, *start)).collect();
    let mut stamp = Stamp { time: tables.applied.time, profile: tables.profile.version };
    let (reader, mut next) = (log.reader(), tables.applied.index.next().max(first));
    while next <= last {
        for record in reader.read(next, SCAN_BYTES)? {
            if epochs.last().is_none_or(|(epoch, _)| *epoch < record.epoch) {
                epochs.push((record.epoch, record.index));
            }
            stamp = Stamp::peek(&record.payload)?;
            next = record.index.next();
        }
    }
    let epochs = EpochTable::from_starts(epochs).ok_or(DecodeError::Malformed { what: "epochs" })?;
    let base = LogIndex(first.0.saturating_sub(1));
    Ok(Stored {
        hard: state,
        // What was damaged or lost has not come this far.
        intact: true,
        base: Position { epoch: epochs.epoch_at(base), index: base },
        last: Position { epoch: log.last_epoch(), index: last },
        epochs,
        stamp,
        applied: tables.applied.index,
        digest: tables.applied.digest,
        snapshot: None,
    })
}

/// The number of a store that was just made. 0 is no incarnation.
fn draw_incarnation() -> Result<Incarnation, StartError> {
    getrandom::u64().map(|number| Incarnation(number.max(1))).map_err(StartError::Random)
}

/// Reads the tables, or rebuilds them and the state from a snapshot where the log does not reach back to them.
fn recover_tables(
    options: &ReplicaOptions,
    db: &StateDb,
    state: StateId,
    disk: &dyn Disk,
    runtime: &Runtime,
    log: &Log,
) -> Result<Tables, StartError> {
    let tables = Tables::read(db, state, &|bytes| runtime.load_accepted(bytes))?;
    let (applied, first, last) = (tables.applied.index, log.first_index(), log.last_index());
    if applied > last {
        return Err(StartError::LogLost { last, applied });
    }
    if applied.next() >= first {
        return Ok(tables);
    }
    if applied > LogIndex(0) {
        // A state that lost its newest part is not rebuilt over: it is kept for whoever looks into it.
        let tried = "; move the folder `state` aside to have it rebuilt from a snapshot".to_owned();
        return Err(StartError::Gap { first, applied, tried });
    }
    let mut tried = String::new();
    for name in list_snapshots(disk)?.iter().rev() {
        let opened = SnapshotReader::open(disk, name).map_err(|error| Fault::Snapshot(error.into()));
        match opened.and_then(|file| restore_group(db, state, options.group, runtime, file)) {
            Ok(tables) if tables.applied.index.next() >= first && tables.applied.index <= last => {
                tracing::warn!(name, index = tables.applied.index.0, "rebuilt the state from a snapshot");
                return Ok(tables);
            }
            Ok(tables) => tried += &format!("; snapshot {name} ends at {}", tables.applied.index),
            Err(Fault::Snapshot(error)) => tried += &format!("; snapshot {name}: {error}"),
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(StartError::Gap { first, applied, tried })
}

fn note_snapshot(shared: &Shared) -> Result<(), StartError> {
    let newest = list_snapshots(shared.disk.as_ref())?.pop();
    let index = newest.and_then(|name| name.parse().ok()).unwrap_or(0);
    shared.positions.snapshot.store(index, Ordering::Relaxed);
    Ok(())
}

fn launch(
    shared: Arc<Shared>,
    files: Files,
    stored: Stored,
    newest_state: StateId,
    member: Option<Member>,
) -> Result<Replica, StartError> {
    // None of these channels has a bound of its own: writes are bounded by `InFlight`, entries by the writes in
    // them, and everything else by its caller waiting for an answer.
    let (events, event_queue) = mpsc::channel();
    let (writer_jobs, writer_queue) = mpsc::channel();
    let (apply_jobs, apply_queue) = mpsc::channel();
    let (janitor_stop, janitor_stopped) = mpsc::sync_channel(0);
    let (reader_jobs, reader_queue) = mpsc::channel();
    let (started, waits) = oneshot::channel();
    let seed = getrandom::u64().map_err(StartError::Random)?;
    let inbox = Inbox::new(events.clone());
    let (options, outside, waits): (Options, Arc<dyn Outside>, _) = match member {
        None => {
            let boot = outside::boot_after(stored.hard.promised.boot);
            let options = Options::new(0, shared.group, outside::ALONE, boot, seed);
            (options, Arc::new(Alone::new(inbox, &stored.hard)?), Some(waits))
        }
        Some(member) => {
            let options = Options {
                beacon: member.times.beacon,
                shrink_after: member.times.shrink_after,
                grace: member.times.grace,
                lease: member.times.grace / 2,
                lease_margin: member.times.grace / 20,
                #[cfg(feature = "mutants")]
                mutant: shared.options.mutant,
                ..Options::new(member.cluster, shared.group, member.node, member.boot, seed)
            };
            (options, (member.outside)(inbox), None)
        }
    };
    let core = Core::new(options, stored, uptime());
    let apply =
        Apply { machine: Machine::new(shared.clone()), log: files.log.reader(), events: events.clone() };
    let channels = Channels {
        inbox: events.clone(),
        writer: writer_jobs,
        apply: apply_jobs.clone(),
        reader: reader_jobs,
    };
    let (log, started) = (files.log.reader(), waits.is_some().then_some(started));
    let driver = Driver::new(shared.clone(), core, outside, channels, newest_state, started);
    let driver = DriverCell::new(driver);
    let handles = vec![
        spawn("log", {
            let (s, e, d) = (shared.clone(), events.clone(), driver.handle());
            move || writer::run(files, &s, &writer_queue, &d, &e)
        })?,
        spawn("reader", {
            let e = events.clone();
            move || log_reader::run(&log, &reader_queue, &e)
        })?,
        spawn("apply", move || apply.run(&apply_queue))?,
        spawn("driver", move || driver.run(&event_queue))?,
        spawn("janitor", {
            let s = shared.clone();
            let stop: Receiver<()> = janitor_stopped;
            move || janitor::run(&s, &stop)
        })?,
    ];
    let running = Running { handles, janitor: janitor_stop, db: shared.db.clone() };
    let threads = Arc::new(Threads { running: Mutex::new(Some(running)) });
    match waits.map(oneshot::Receiver::blocking_recv) {
        None | Some(Ok(Ok(Ok(_)))) => {}
        Some(Ok(Err(error))) => return Err(StartError::Begin(error)),
        Some(Ok(Ok(Err(_))) | Err(_)) => return Err(StartError::Begin(WriteError::ShuttingDown)),
    }
    let queries = Arc::new(Queries::new(shared.clone(), events.clone()));
    Ok(Replica { shared, events, apply: apply_jobs, queries, threads })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    // Plugins run on the driver and the apply thread: their stack must hold a guest's, and the host's below it.
    let builder =
        std::thread::Builder::new().name(format!("mortise-{name}")).stack_size(NATIVE_STACK_BYTES_MIN);
    builder.spawn(run).map_err(StartError::Thread)
}

impl From<SnapshotError> for StartError {
    fn from(error: SnapshotError) -> Self {
        Self::Restore(Fault::Snapshot(error))
    }
}
