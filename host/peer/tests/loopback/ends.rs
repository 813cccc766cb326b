//! Everything ends when it is told to, or when nobody holds it any more.

use std::collections::BTreeMap;

use mortise_core::group::NodeId;
use mortise_core::ids::GroupId;
use mortise_core::replica::StreamId;
use mortise_peer::{Options, PeerError};

use crate::gate::Gate;
use crate::node::{GROUP, Node, Told, alive_tasks, beacon, eventually, pair, tasks_are};

const TWO: NodeId = NodeId(2);

/// Two nodes with everything open between them, and what was running before.
async fn busy() -> (Node, Node, Gate, usize) {
    let (one, two) = pair(Options::default()).await;
    let gate = Gate::before(two.address).await;
    one.knows(&[(&two, gate.address())]);
    let before = alive_tasks();
    for stream in 1..=20 {
        one.peers.open_stream(GroupId(stream), TWO, StreamId(stream));
        one.notes.hears(&Told::Opened(TWO, StreamId(stream))).await;
    }
    assert!(alive_tasks() > before + 20);
    (one, two, gate, before)
}

#[tokio::test]
async fn everything_ends_when_links_are_closed() {
    let (one, two, gate, before) = busy().await;
    let peers = one.peers.clone();
    let hanging = one.peers.using(TWO, |_| std::future::pending::<Result<(), PeerError>>());
    let (ended, ()) = tokio::join!(hanging, peers.close());
    assert!(matches!(ended, Err(PeerError::Broken | PeerError::Closed)), "{ended:?}");
    eventually("connections are closed", || gate.open() == 0).await;
    tasks_are(before).await;
    assert_eq!(one.notes.count(|told| matches!(told, Told::Closed(..))), 0);

    // Nothing begins again.
    peers.set_members(BTreeMap::from([(TWO, gate.address())]));
    peers.open_stream(GROUP, TWO, StreamId(99));
    peers.send(TWO, beacon(1));
    assert!(matches!(one.touch(&two).await, Err(PeerError::Unknown(TWO))));
    let refused = two.touch(&one).await;
    assert!(matches!(refused, Err(PeerError::Broken)), "{refused:?}");
    tokio::time::timeout(std::time::Duration::from_secs(10), peers.close()).await.expect("closed twice");
}

#[tokio::test]
async fn everything_ends_with_the_last_clone() {
    let (mut one, two, gate, before) = busy().await;
    let clone = one.peers.clone();
    one.peers = two.peers.clone();
    clone.using(TWO, |_| async { Ok(()) }).await.unwrap();
    drop(clone);
    eventually("connections are closed", || gate.open() == 0).await;
    tasks_are(before).await;
}
