//! Fetching a snapshot from a peer.

use std::sync::Arc;

use bytes::Bytes;
use mortise_core::ids::{GroupId, LogIndex};
use mortise_proto::v1;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::Code;

use crate::error::PeerError;
use crate::link::{Backoff, connection};
use crate::local::SnapshotSink;
use crate::shared::{Member, Shared};

/// Most bytes of a chunk: small enough to be repeated after a break, large enough that its head costs nothing.
pub(crate) const CHUNK_BYTES_MAX: usize = 256 << 10;

/// A snapshot that is being fetched.
struct Transfer<S> {
    sink: S,
    /// What the sink has taken.
    bytes: u64,
    /// What the first chunk said.
    total: Option<u64>,
}

impl<S> Transfer<S> {
    fn is_whole(&self) -> bool {
        self.total == Some(self.bytes)
    }
}

/// Fetches a whole snapshot into `sink`, and goes on where it was after a break. Gives the sink back, and the
/// snapshot's size.
pub(crate) async fn fetch<S: SnapshotSink>(
    shared: &Arc<Shared>,
    member: &Arc<Member>,
    group: GroupId,
    index: LogIndex,
    sink: S,
) -> Result<(S, u64), PeerError> {
    let options = &shared.options;
    let mut transfer = Transfer { sink, bytes: 0, total: None };
    let mut backoff = Backoff::new(options.redial_min, options.redial_max);
    let mut attempts = 0;
    loop {
        let before = transfer.bytes;
        let (after, ended) = go_on(shared, member, group, index, transfer).await?;
        transfer = after;
        if transfer.is_whole() {
            return Ok((transfer.sink, transfer.bytes));
        }
        if transfer.bytes > before {
            attempts = 0;
            backoff.reset();
        }
        attempts += 1;
        // An end without an error is a break, too: something is missing.
        let error = ended.err().unwrap_or(PeerError::Broken);
        if attempts >= options.snapshot_attempts_max || !may_pass(&error) {
            return Err(error);
        }
        tracing::info!(peer = member.node.0, %error, bytes = transfer.bytes, "fetch a snapshot: goes on after a break");
        tokio::select! {
            () = backoff.wait() => {}
            () = member.stop.stopped() => return Err(PeerError::Unknown(member.node)),
            () = shared.stop.stopped() => return Err(PeerError::Closed),
        }
    }
}

/// Whether the same may succeed a moment later.
fn may_pass(error: &PeerError) -> bool {
    match error {
        PeerError::Broken | PeerError::Timeout => true,
        PeerError::Refused { code, .. } => {
            matches!(code, Code::Unavailable | Code::ResourceExhausted)
        }
        _ => false,
    }
}

/// One attempt. Gives back how far it came and how it ended; fails where going on makes no sense.
async fn go_on<S: SnapshotSink>(
    shared: &Arc<Shared>,
    member: &Arc<Member>,
    group: GroupId,
    index: LogIndex,
    mut transfer: Transfer<S>,
) -> Result<(Transfer<S>, Result<(), PeerError>), PeerError> {
    let mut connection = match connection(shared, member).await {
        Ok(connection) => connection,
        Err(error) => return Ok((transfer, Err(error))),
    };
    let idle_max = shared.options.snapshot_idle_max;
    let request = v1::FetchSnapshotRequest { group: group.0, index: index.0, offset: transfer.bytes };
    let begun = tokio::select! {
        () = connection.stop.stopped() => Err(PeerError::Broken),
        begun = timeout(idle_max, connection.client.fetch_snapshot(request)) => match begun {
            Ok(begun) => begun.map_err(PeerError::from),
            Err(_) => Err(PeerError::Timeout),
        },
    };
    let mut chunks = match begun {
        Ok(begun) => begun.into_inner(),
        Err(error) => return Ok((transfer, Err(error))),
    };
    loop {
        let next = tokio::select! {
            () = connection.stop.stopped() => Err(PeerError::Broken),
            next = timeout(idle_max, chunks.message()) => match next {
                Ok(next) => next.map_err(PeerError::from),
                Err(_) => Err(PeerError::Timeout),
            },
        };
        match next {
            Ok(Some(chunk)) => transfer = take(transfer, chunk).await?,
            Ok(None) => return Ok((transfer, Ok(()))),
            Err(error) => return Ok((transfer, Err(error))),
        }
        if transfer.is_whole() {
            return Ok((transfer, Ok(())));
        }
    }
}

/// Checks a chunk, and gives it to the sink on a blocking thread.
async fn take<S: SnapshotSink>(
    mut transfer: Transfer<S>,
    chunk: v1::SnapshotChunk,
) -> Result<Transfer<S>, PeerError> {
    let data = check(&transfer, chunk)?;
    transfer.total = Some(data.total);
    let (written, transfer) = spawn_blocking(move || {
        let written = transfer.sink.write(transfer.bytes, &data.bytes);
        transfer.bytes += data.bytes.len() as u64;
        (written, transfer)
    })
    .await
    .map_err(|_| PeerError::Thread)?;
    written.map_err(PeerError::Sink)?;
    Ok(transfer)
}

struct Checked {
    bytes: Bytes,
    total: u64,
}

fn check<S>(transfer: &Transfer<S>, chunk: v1::SnapshotChunk) -> Result<Checked, PeerError> {
    let v1::SnapshotChunk { offset, data, crc32c: sum, total_bytes } = chunk;
    let left = total_bytes.saturating_sub(transfer.bytes);
    let is_end = data.is_empty() && left > 0;
    match () {
        () if offset != transfer.bytes => Err(PeerError::Chunk("it is not the next one")),
        () if transfer.total.is_some_and(|total| total != total_bytes) => {
            Err(PeerError::Chunk("the snapshot has another size now"))
        }
        () if data.len() > CHUNK_BYTES_MAX || data.len() as u64 > left || is_end => {
            Err(PeerError::Chunk("it has a size that no chunk has"))
        }
        () if crc32c::crc32c(&data) != sum => Err(PeerError::Chunk("its checksum does not fit")),
        () => Ok(Checked { bytes: data, total: total_bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_is_not_the_next_whole_piece_is_refused() {
        let transfer = |bytes, total| Transfer { sink: (), bytes, total };
        let chunk = |offset, size: usize, total_bytes| {
            let data = Bytes::from(vec![7; size]);
            v1::SnapshotChunk { offset, crc32c: crc32c::crc32c(&data), data, total_bytes }
        };
        let good = [
            (transfer(0, None), chunk(0, 0, 0)),
            (transfer(0, None), chunk(0, 10, 10)),
            (transfer(10, Some(30)), chunk(10, 5, 30)),
            (transfer(0, None), chunk(0, CHUNK_BYTES_MAX, 1 << 30)),
        ];
        for (transfer, chunk) in good {
            assert!(check(&transfer, chunk).is_ok());
        }
        let mut damaged = chunk(0, 10, 10);
        damaged.crc32c ^= 1;
        let bad = [
            (transfer(10, Some(30)), chunk(9, 5, 30)),
            (transfer(10, Some(30)), chunk(11, 5, 30)),
            (transfer(10, Some(30)), chunk(10, 5, 31)),
            (transfer(10, Some(30)), chunk(10, 21, 30)),
            (transfer(10, Some(30)), chunk(10, 0, 30)),
            (transfer(0, None), chunk(0, CHUNK_BYTES_MAX + 1, 1 << 30)),
            (transfer(10, None), chunk(10, 5, 3)),
            (transfer(0, None), damaged),
        ];
        for (transfer, chunk) in bad {
            assert!(matches!(check(&transfer, chunk), Err(PeerError::Chunk(_))));
        }
    }
}
