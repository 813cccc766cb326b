//! Getting a snapshot from the leader: fetched, checked, and restored beside the present state, all on a thread of its
//! own. Nothing of it counts before the core has it installed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Instant;

use anyhow::{Context, ensure};
use mortise_core::group::NodeId;
use mortise_core::replica::SnapshotMeta;
use mortise_peer::SnapshotSink;
use mortise_storage::{IncomingSnapshot, SnapshotReader, StateId};

use super::driver::Event;
use super::outside::Outside;
use super::shared::Shared;
use super::snapshot::{meta_of, restore_group, snapshot_name};
use super::tables::Tables;

/// A snapshot that is restored beside the present state.
pub(crate) struct Fetched {
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: StateId,
    pub(crate) tables: Box<Tables>,
}

/// Where the file of a snapshot is put while it comes.
pub(crate) struct Incoming {
    shared: Arc<Shared>,
    file: IncomingSnapshot,
}

impl SnapshotSink for Incoming {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(io::Error::other("this node is stopping"));
        }
        if offset != self.file.offset() {
            return Err(io::Error::other("a part of the snapshot is missing"));
        }
        self.file.write(bytes).map_err(io::Error::other)
    }
}

/// Begins to fetch what `meta` describes into the unused state `state`. Ends with [`Event::Fetched`].
pub(crate) fn start(
    shared: &Arc<Shared>,
    outside: &Arc<dyn Outside>,
    events: &Sender<Event>,
    from: NodeId,
    meta: SnapshotMeta,
    state: StateId,
) {
    let (shared, outside, sender) = (shared.clone(), outside.clone(), events.clone());
    let run = move || {
        let fetched = fetch(&shared, outside.as_ref(), from, &meta, state);
        let fetched = match fetched {
            Ok(tables) => Some(Fetched { meta, state, tables: Box::new(tables) }),
            Err(error) => {
                tracing::warn!(%from, error = format!("{error:#}"), "fetch a snapshot");
                shared.discard(state);
                None
            }
        };
        // The driver is gone only when the replica stops.
        let _ = sender.send(Event::Fetched(fetched));
    };
    if let Err(error) = std::thread::Builder::new().name("mortise-fetch".into()).spawn(run) {
        tracing::error!(%error, "start the thread that fetches a snapshot");
        let _ = events.send(Event::Fetched(None));
    }
}

fn fetch(
    shared: &Arc<Shared>,
    outside: &dyn Outside,
    from: NodeId,
    meta: &SnapshotMeta,
    state: StateId,
) -> anyhow::Result<Tables> {
    let start = Instant::now();
    let (index, name) = (meta.last.index, snapshot_name(meta.last.index));
    tracing::info!(%from, %index, "fetching a snapshot");
    let file = IncomingSnapshot::create(shared.disk.clone(), &name)?;
    let incoming = outside.fetch_snapshot(from, index, Incoming { shared: shared.clone(), file })?;
    let info = incoming.file.finish()?;
    let (bytes, took) = (info.bytes, start.elapsed());
    let file = SnapshotReader::open(shared.disk.as_ref(), &name)?;
    let tables = restore_group(&shared.db, state, shared.group, &shared.runtime, file)
        .context("restore the fetched snapshot")?;
    let found = meta_of(&tables.applied, &tables.epochs, &tables.profile, meta.generation)?;
    ensure!(found == *meta, "the snapshot that came is another one than was asked for");
    tracing::info!(%from, %index, bytes, fetched = ?took, restored = ?start.elapsed(), "a snapshot is ready");
    Ok(tables)
}
