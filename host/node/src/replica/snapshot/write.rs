//! Writing snapshots: of the group, to the data folder; of one tenant, to whoever exports it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

use bytes::Bytes;
use mortise_core::digest::{Context, Digest, StateDigest, state_digest};
use mortise_core::group::Generation;
use mortise_core::ids::{Installation, LogIndex, TenantId};
use mortise_core::state::{Direction, KeyRange, StateReader};
use mortise_runtime::{Plugin, Runtime};
use mortise_storage::snapshot::CHUNK_BYTES_MAX;
use mortise_storage::{SnapshotEncoder, SnapshotError as FileError, SnapshotInfo, SnapshotWriter};
use tokio::sync::mpsc;

use super::{
    GROUP, Header, RAW_CHUNK_BYTES, SectionHeader, SnapshotError, SnapshotSource, TENANT, TenantSection,
    meta_of, raw_pair, snapshot_name,
};
use crate::replica::api::{AdminError, SnapshotTaken};
use crate::replica::apply::SnapshotReply;
use crate::replica::driver::Event;
use crate::replica::install::Construction;
use crate::replica::kept::keys_of;
use crate::replica::machine::Fault;
use crate::replica::shared::Shared;
use crate::replica::tables::{IN_SNAPSHOTS, Tenant};

/// The installation number that trials of snapshots are restored under: no tenant ever gets it.
const TRIAL: Installation = Installation(u64::MAX);

/// Bytes of one tenant's snapshot as its plugin writes it. Beyond, the host's raw dump is the smaller evil.
const SNAPSHOT_BYTES_MAX: u64 = 64 << 30;

/// Takes group snapshots, one at a time, on a thread of its own each.
pub(crate) struct Snapshots {
    shared: Arc<Shared>,
    events: Sender<Event>,
    busy: Arc<AtomicBool>,
}

impl Snapshots {
    pub(crate) fn new(shared: Arc<Shared>, events: Sender<Event>) -> Self {
        Self { shared, events, busy: Arc::default() }
    }

    /// Begins a snapshot of `source`, whose history has this generation; `reply` learns how it ended.
    pub(crate) fn take(&self, source: SnapshotSource, generation: Generation, reply: Option<SnapshotReply>) {
        if self.busy.swap(true, Ordering::AcqRel) {
            let busy = "a snapshot is being taken already: wait for it";
            let _ = reply.map(|reply| reply.send(Err(AdminError::FailedPrecondition(busy.into()))));
            return;
        }
        let (shared, events, busy) = (self.shared.clone(), self.events.clone(), self.busy.clone());
        let run = move || {
            let taken = take(&shared, &source);
            busy.store(false, Ordering::Release);
            match &taken {
                // The driver is gone only when the replica stops.
                Ok(_) => {
                    let meta = meta_of(&source.applied, &source.epochs, &source.profile, generation);
                    drop(events.send(Event::Snapshotted(source.state, meta.ok())));
                }
                Err(error) => {
                    tracing::error!(%error, "take a snapshot; the log is kept");
                    let _ = events.send(Event::Snapshotted(source.state, None));
                }
            }
            let _ = reply.map(|reply| reply.send(taken));
        };
        if let Err(error) = std::thread::Builder::new().name("mortise-snapshot".into()).spawn(run) {
            self.busy.store(false, Ordering::Release);
            tracing::error!(%error, "start the snapshot thread; the log is kept");
        }
    }
}

fn take(shared: &Arc<Shared>, source: &SnapshotSource) -> Result<SnapshotTaken, AdminError> {
    let start = Instant::now();
    // What the snapshot covers must be durable in the state too, before any log is dropped.
    shared.db.persist().map_err(AdminError::internal)?;
    let name = snapshot_name(source.applied.index);
    let info = write_group(shared, source, &name).map_err(AdminError::internal)?;
    shared.positions.snapshot.store(source.applied.index.0, Ordering::Relaxed);
    shared.metrics.snapshot(start.elapsed(), info.bytes);
    shared.remove_old_snapshots();
    tracing::info!(index = source.applied.index.0, bytes = info.bytes, "took a snapshot");
    Ok(SnapshotTaken {
        index: source.applied.index,
        bytes: info.bytes,
        digest: Digest(info.digest),
        log_first_index: LogIndex(shared.positions.log_first.load(Ordering::Relaxed)),
    })
}

fn header(shared: &Shared, source: &SnapshotSource, kind: u8) -> Bytes {
    let runtime = Runtime::identity();
    Header { kind, group: shared.group, applied: source.applied, runtime }.encode()
}

fn write_group(shared: &Arc<Shared>, source: &SnapshotSource, name: &str) -> Result<SnapshotInfo, Fault> {
    let disk = shared.disk.clone();
    let mut file = SnapshotWriter::create(disk, name, &header(shared, source, GROUP)).map_err(failed)?;
    write_tables(source, &mut file)?;
    for (id, tenant, plugin) in &source.tenants {
        write_tenant(shared, source, *id, tenant, plugin, &mut file)?;
        if tenant.watch {
            file.begin_section(&SectionHeader::Kept(*id).encode()).map_err(failed)?;
            let kept = source.view.effects_scan(source.state, &keys_of(*id), Direction::Ascending);
            write_pairs(kept.map(|pair| Ok(pair?)), &mut file)?;
            file.end_section().map_err(failed)?;
        }
    }
    file.finish().map_err(failed)
}

fn failed(error: impl Into<SnapshotError>) -> Fault {
    Fault::Snapshot(error.into())
}

fn write_tables(source: &SnapshotSource, file: &mut dyn Sections) -> Result<(), Fault> {
    file.begin_section(&SectionHeader::Tables.encode()).map_err(failed)?;
    let pairs = IN_SNAPSHOTS.iter().flat_map(|kind| source.view.meta_scan(source.state, &[*kind]));
    write_pairs(pairs.map(|pair| Ok(pair?)), file)?;
    file.end_section().map_err(failed)
}

/// Writes pairs as the host's raw dump.
fn write_pairs(
    pairs: impl Iterator<Item = Result<(Bytes, Bytes), Fault>>,
    file: &mut dyn Sections,
) -> Result<(), Fault> {
    let mut chunk = Vec::with_capacity(2 * RAW_CHUNK_BYTES);
    for pair in pairs {
        let (key, value) = pair?;
        raw_pair(&mut chunk, &key, &value);
        flush(&mut chunk, RAW_CHUNK_BYTES, file)?;
    }
    flush(&mut chunk, 1, file)
}

fn flush(chunk: &mut Vec<u8>, from: usize, file: &mut dyn Sections) -> Result<(), Fault> {
    if chunk.len() >= from {
        // A single pair can be larger than a chunk may be.
        for part in chunk.chunks(CHUNK_BYTES_MAX) {
            file.write(part).map_err(failed)?;
        }
        chunk.clear();
    }
    Ok(())
}

fn write_tenant(
    shared: &Arc<Shared>,
    source: &SnapshotSource,
    id: TenantId,
    tenant: &Tenant,
    plugin: &Plugin,
    file: &mut dyn Sections,
) -> Result<(), Fault> {
    let state = source.view.reader(source.state, tenant.installation, id);
    let digest = state_digest(state.as_ref()).map_err(|error| Fault::Runtime(error.into()))?;
    let trial = try_plugin(shared, source, id, tenant, plugin, digest)?;
    let note = trial.as_ref().map_or_else(|why| format!("raw: {why}"), |()| "plugin".to_owned());
    if trial.is_err() {
        tracing::warn!(tenant = tenant.name, note, "the plugin's snapshot is not used");
    }
    shared.note_section(id, note);
    let raw = trial.is_err();
    let section = TenantSection { id, tenant: tenant.clone(), raw, state: digest };
    file.begin_section(&SectionHeader::Tenant(Box::new(section)).encode()).map_err(failed)?;
    if raw {
        let pairs = state.scan(&KeyRange::all(), Direction::Ascending);
        write_pairs(pairs.map(|pair| pair.map_err(|error| Fault::Runtime(error.into()))), file)?;
    } else {
        let mut output = |chunk: &[u8]| file.write(chunk).map_err(|error| error.into());
        // It went well a moment ago, and it is deterministic.
        let written = plugin.reader(&source.profile).snapshot(state, SNAPSHOT_BYTES_MAX, &mut output)?;
        written.map_err(|failure| failed(SnapshotError::Content(format!("a second snapshot: {failure}"))))?;
    }
    file.end_section().map_err(failed)
}

/// Feeds what the plugin's `snapshot` gives to its `restore`, and compares states. The inner error says why the
/// plugin's snapshot cannot be used.
fn try_plugin(
    shared: &Arc<Shared>,
    source: &SnapshotSource,
    id: TenantId,
    tenant: &Tenant,
    plugin: &Plugin,
    expected: StateDigest,
) -> Result<Result<(), String>, Fault> {
    /// Chunks on their way from `snapshot` to `restore`.
    const PIPE_CHUNKS: usize = 16;
    let (chunks, incoming) = std::sync::mpsc::sync_channel::<Bytes>(PIPE_CHUNKS);
    let mut trial = Construction::begin(&shared.db, source.state, TRIAL, id)?;
    let state: Arc<dyn StateReader> = source.view.reader(source.state, tenant.installation, id);
    let context = Context { sequence: tenant.sequence, time: source.applied.time, principal: None };
    let (written, restored) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let chunks = chunks;
            let mut output = |chunk: &[u8]| {
                // A restore that ended early has its own reason, which is the one told.
                chunks.send(Bytes::copy_from_slice(chunk)).map_err(|_| "the restore ended early".into())
            };
            plugin.reader(&source.profile).snapshot(state, SNAPSHOT_BYTES_MAX, &mut output)
        });
        let mut rest = Bytes::new();
        let input = move |bytes_max: usize| {
            if rest.is_empty() {
                rest = incoming.recv().unwrap_or_default();
            }
            Ok((!rest.is_empty()).then(|| rest.split_to(rest.len().min(bytes_max.max(1)))))
        };
        let restored = {
            // Goes with its end of the pipe, so that a snapshot whose restore ended early does not wait for ever.
            let mut input = input;
            plugin.restore(&source.profile, &mut trial, &context, &mut input)
        };
        (writing.join(), restored)
    });
    let verdict = match (written, restored) {
        (_, Err(fault)) => Err(fault.into()),
        (_, Ok(Err(failure))) => Ok(Err(format!("restore: {failure}"))),
        (Err(_), _) => Ok(Err("snapshot: its thread panicked".into())),
        (Ok(Err(fault)), _) => Err(fault.into()),
        (Ok(Ok(Err(failure))), _) => Ok(Err(format!("snapshot: {failure}"))),
        (Ok(Ok(Ok(_))), Ok(Ok(_))) => match state_digest(trial.state().as_ref()) {
            Err(error) => Err(Fault::Runtime(error.into())),
            Ok(found) if found == expected => Ok(Ok(())),
            Ok(found) => Ok(Err(format!(
                "unfaithful: {} pairs went in, {} came out, or they differ",
                expected.pairs, found.pairs
            ))),
        },
    };
    trial.abandon()?;
    verdict
}

/// Streams a snapshot of one tenant. A fault goes into `chunks` as its last element.
pub(crate) fn export_tenant(
    shared: &Arc<Shared>,
    source: &SnapshotSource,
    id: TenantId,
    chunks: &mpsc::Sender<Result<Bytes, AdminError>>,
) {
    if let Err(fault) = write_export(shared, source, id, chunks) {
        // A caller that went away needs no reason.
        let _ = chunks.blocking_send(Err(AdminError::internal(fault)));
    }
}

fn write_export(
    shared: &Arc<Shared>,
    source: &SnapshotSource,
    id: TenantId,
    chunks: &mpsc::Sender<Result<Bytes, AdminError>>,
) -> Result<(), Fault> {
    let Some((_, tenant, plugin)) = source.tenants.iter().find(|(other, ..)| *other == id) else {
        return Err(failed(SnapshotError::Content("the tenant is gone".into())));
    };
    let stream = std::io::BufWriter::with_capacity(RAW_CHUNK_BYTES, ChunkStream(chunks));
    let mut file =
        SnapshotEncoder::new(stream, "the export", &header(shared, source, TENANT)).map_err(failed)?;
    let component = crate::replica::records::component(&shared.db, source.state, tenant.plugin)?;
    file.begin_section(&SectionHeader::Component(tenant.plugin).encode()).map_err(failed)?;
    for part in component.unwrap_or_default().chunks(RAW_CHUNK_BYTES) {
        file.write(part).map_err(failed)?;
    }
    file.end_section().map_err(failed)?;
    write_tenant(shared, source, id, tenant, plugin, &mut file)?;
    let (mut stream, _) = file.finish().map_err(failed)?;
    stream.flush().map_err(|error| failed(SnapshotError::Content(format!("send the export: {error}"))))
}

/// Where sections are written: a file, or a stream.
trait Sections {
    fn begin_section(&mut self, header: &[u8]) -> Result<(), FileError>;
    fn write(&mut self, chunk: &[u8]) -> Result<(), FileError>;
    fn end_section(&mut self) -> Result<(), FileError>;
}

macro_rules! sections {
    ($($type:tt)*) => {
        impl $($type)* {
            fn begin_section(&mut self, header: &[u8]) -> Result<(), FileError> {
                Self::begin_section(self, header)
            }

            fn write(&mut self, chunk: &[u8]) -> Result<(), FileError> {
                Self::write(self, chunk)
            }

            fn end_section(&mut self) -> Result<(), FileError> {
                Self::end_section(self)
            }
        }
    };
}

sections!(Sections for SnapshotWriter);
sections!(<W: Write> Sections for SnapshotEncoder<W>);

/// Hands what is written to it to a receiver.
struct ChunkStream<'a>(&'a mpsc::Sender<Result<Bytes, AdminError>>);

impl Write for ChunkStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let gone = |_| std::io::ErrorKind::BrokenPipe.into();
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
