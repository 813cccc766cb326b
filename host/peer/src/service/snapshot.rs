//! Sending a snapshot.

use std::sync::Arc;

use bytes::Bytes;
use mortise_core::ids::{GroupId, LogIndex};
use mortise_proto::v1;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::refused;
use crate::fetch::CHUNK_BYTES_MAX;
use crate::local::SnapshotSource;
use crate::shared::{Member, Shared};

/// Chunks that are read ahead of what the connection takes.
const CHUNKS_AHEAD: usize = 2;

type Chunks = ReceiverStream<Result<v1::SnapshotChunk, Status>>;

/// A snapshot's chunks from `offset` on.
pub(super) async fn send(
    shared: &Arc<Shared>,
    member: &Arc<Member>,
    group: GroupId,
    index: LogIndex,
    offset: u64,
) -> Result<Chunks, Status> {
    let place = Arc::clone(&shared.snapshots).try_acquire_owned();
    let place = place.map_err(|_| Status::resource_exhausted("too many snapshots are being sent"))?;
    let local = shared.local().ok_or_else(|| Status::unavailable("this node stops"))?;
    let source = spawn_blocking(move || local.snapshot(group, index)).await.map_err(failed)?;
    let source = source.map_err(|refusal| refused(&refusal))?;
    if offset > source.bytes() {
        return Err(Status::out_of_range(format!("the snapshot has {} bytes", source.bytes())));
    }
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let (of_task, member) = (Arc::clone(shared), Arc::clone(member));
    shared.spawn(async move {
        tokio::select! {
            () = member.stop.stopped() => {}
            () = send_on(&of_task, &source, offset, &sender) => {}
        }
        drop(place);
    });
    Ok(ReceiverStream::new(receiver))
}

/// Sends until the end, a failure, or a receiver that takes nothing for too long.
async fn send_on(
    shared: &Shared,
    source: &Arc<dyn SnapshotSource>,
    mut offset: u64,
    chunks: &mpsc::Sender<Result<v1::SnapshotChunk, Status>>,
) {
    loop {
        let from = Arc::clone(source);
        let read = spawn_blocking(move || read_chunk(&*from, offset)).await;
        let chunk = read.map_err(failed).flatten();
        let next = chunk.as_ref().ok().map(|chunk| chunk.offset + chunk.data.len() as u64);
        let sent = timeout(shared.options.snapshot_idle_max, chunks.send(chunk)).await;
        match (sent, next) {
            (Ok(Ok(())), Some(next)) if next < source.bytes() => offset = next,
            _ => return,
        }
    }
}

fn read_chunk(source: &dyn SnapshotSource, offset: u64) -> Result<v1::SnapshotChunk, Status> {
    let total_bytes = source.bytes();
    let size = usize::try_from(total_bytes - offset).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX);
    let mut buffer = vec![0; size];
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read_at(offset + filled as u64, rest).map_err(failed)? {
            0 => return Err(Status::data_loss("the snapshot is shorter than it said")),
            read => filled += read,
        }
    }
    let data = Bytes::from(buffer);
    Ok(v1::SnapshotChunk { offset, crc32c: crc32c::crc32c(&data), data, total_bytes })
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("read the snapshot: {error}"))
}
