//! Snapshots: whole, checked, and resumed.

use std::io;
use std::sync::{Arc, Mutex};

use mortise_core::group::NodeId;
use mortise_core::ids::LogIndex;
use mortise_peer::{Options, PeerError, Refusal, SnapshotSink, SnapshotSource};

use crate::gate::Gate;
use crate::node::{GROUP, Node, Snapshots, pair, quick, tasks_are};

const TWO: NodeId = NodeId(2);

/// Bytes, and something to do at each read.
struct Source {
    bytes: Vec<u8>,
    said: u64,
    at_read: Box<dyn Fn(u64) -> io::Result<()> + Send + Sync>,
}

impl SnapshotSource for Source {
    fn bytes(&self) -> u64 {
        self.said
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (self.at_read)(offset)?;
        let rest = &self.bytes[offset as usize..];
        // In odd pieces: a read may give less than was asked for.
        let size = rest.len().min(buffer.len()).min(100_003);
        buffer[..size].copy_from_slice(&rest[..size]);
        Ok(size)
    }
}

/// Keeps what it is given, in order.
#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    fails: bool,
}

impl SnapshotSink for Sink {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(offset, self.bytes.len() as u64);
        if self.fails {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

fn some_bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 % 251) as u8).collect()
}

fn serve(bytes: &[u8], at_read: impl Fn(u64) -> io::Result<()> + Send + Sync + 'static) -> Snapshots {
    let at_read: Box<dyn Fn(u64) -> io::Result<()> + Send + Sync> = Box::new(at_read);
    let source: Arc<dyn SnapshotSource> =
        Arc::new(Source { bytes: bytes.to_vec(), said: bytes.len() as u64, at_read });
    Box::new(move || Ok(Arc::clone(&source)))
}

fn give(node: &Node, snapshots: Snapshots) {
    *node.notes.snapshots.lock().unwrap() = Some(snapshots);
}

async fn fetch(node: &Node, sink: Sink) -> Result<(Sink, u64), PeerError> {
    node.peers.fetch_snapshot(TWO, GROUP, LogIndex(9), sink).await
}

#[tokio::test]
async fn a_snapshot_arrives_whole_also_an_empty_one() {
    let (one, two) = pair(Options::default()).await;
    for size in [0, 1, 256 << 10, (3 << 20) + 7] {
        let bytes = some_bytes(size);
        give(&two, serve(&bytes, |_| Ok(())));
        let (sink, total) = fetch(&one, Sink::default()).await.unwrap();
        assert!(sink.bytes == bytes && total == size as u64, "{size} bytes");
    }
}

#[tokio::test]
async fn a_snapshot_goes_on_after_breaks() {
    let (one, two) = pair(quick()).await;
    let gate = Arc::new(Gate::before(two.address).await);
    one.knows(&[(&two, gate.address())]);
    let bytes = some_bytes(8 << 20);
    // Cuts the connection at every other MiB, once each.
    let (cuts, cutter) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&gate));
    let of_source = Arc::clone(&cuts);
    let cut = move |offset: u64| {
        let mut cuts = of_source.lock().unwrap();
        let at = offset >> 21;
        if at > 0 && !cuts.contains(&at) {
            cuts.push(at);
            cutter.cut();
        }
        Ok(())
    };
    give(&two, serve(&bytes, cut));
    let (sink, _) = fetch(&one, Sink::default()).await.unwrap();
    assert!(sink.bytes == bytes);
    assert_eq!(cuts.lock().unwrap().len(), 3);
    assert!(gate.made() > 3, "{} connections", gate.made());
}

#[tokio::test]
async fn attempts_that_bring_nothing_are_few() {
    let (one, two) = pair(quick()).await;
    give(&two, Box::new(|| Err(Refusal::Unavailable("it starts".into()))));
    let refused = fetch(&one, Sink::default()).await.err().unwrap();
    assert!(matches!(refused, PeerError::Refused { code: tonic::Code::Unavailable, .. }), "{refused:?}");
    assert_eq!(*two.notes.asked.lock().unwrap(), 5);
}

#[tokio::test]
async fn what_will_not_get_better_is_not_tried_again() {
    let (one, two) = pair(quick()).await;
    let missing = fetch(&one, Sink::default()).await.err().unwrap();
    assert!(matches!(missing, PeerError::Refused { code: tonic::Code::NotFound, .. }), "{missing:?}");
    give(&two, serve(&some_bytes(1 << 20), |_| Err(io::ErrorKind::InvalidData.into())));
    let unreadable = fetch(&one, Sink::default()).await.err().unwrap();
    assert!(matches!(unreadable, PeerError::Refused { code: tonic::Code::Internal, .. }), "{unreadable:?}");
    give(&two, serve(&some_bytes(1 << 20), |_| Ok(())));
    let full = fetch(&one, Sink { fails: true, ..Sink::default() }).await.err().unwrap();
    assert!(matches!(full, PeerError::Sink(_)), "{full:?}");
    let short: Arc<dyn SnapshotSource> =
        Arc::new(Source { bytes: some_bytes(10), said: 20, at_read: Box::new(|_| Ok(())) });
    give(&two, Box::new(move || Ok(Arc::clone(&short))));
    let shorter = fetch(&one, Sink::default()).await.err().unwrap();
    assert!(matches!(shorter, PeerError::Refused { code: tonic::Code::DataLoss, .. }), "{shorter:?}");
    assert_eq!(*two.notes.asked.lock().unwrap(), 4);
}

#[tokio::test]
async fn a_fetch_that_is_dropped_leaves_nothing_running() {
    let (one, two) = pair(quick()).await;
    let before = one.settle(&two).await;
    give(&two, serve(&some_bytes(64 << 20), |_| Ok(())));
    for _ in 0..10 {
        tokio::select! {
            biased;
            _ = fetch(&one, Sink::default()) => panic!("64 MiB are not fetched at once"),
            () = crate::node::eventually("it has begun", {
                let asked = *two.notes.asked.lock().unwrap();
                let notes = Arc::clone(&two.notes);
                move || *notes.asked.lock().unwrap() > asked
            }) => {}
        }
        tasks_are(before).await;
    }
}
