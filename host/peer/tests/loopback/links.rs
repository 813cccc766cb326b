//! What links get wrong elsewhere: two dials for one link, a lock held while a call runs, a check the wrong way round,
//! pings that go on after their link.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use mortise_core::group::NodeId;
use mortise_peer::{Count, LinkState, Options, PeerError};

use crate::gate::{Gate, Pass};
use crate::node::{Node, alive_tasks, beacon, eventually, pair, quick, tasks_are};

/// Nobody listens there.
async fn nowhere() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn gated(options: Options) -> (Node, Node, Gate) {
    let (one, two) = pair(options).await;
    let gate = Gate::before(two.address).await;
    one.knows(&[(&two, gate.address())]);
    (one, two, gate)
}

/// Links that do not dial again by themselves.
fn patient() -> Options {
    let never = Duration::from_secs(3600);
    Options { redial_min: never, redial_max: never, ..Options::default() }
}

#[tokio::test]
async fn a_link_is_dialled_on_first_use_and_all_first_uses_share_it() {
    let (one, two, gate) = gated(Options::default()).await;
    assert_eq!((one.link(&two).state, gate.made()), (LinkState::Idle, 0));
    let uses = join_all((0..50).map(|_| one.touch(&two))).await;
    assert!(uses.iter().all(Result::is_ok), "{uses:?}");
    one.touch(&two).await.unwrap();
    assert_eq!((gate.made(), one.counted(Count::Dials)), (1, 1));
    let link = one.link(&two);
    assert_eq!(link.state, LinkState::Connected);
    assert!(link.round_trip.is_some());
}

#[tokio::test]
async fn no_lock_is_held_while_an_action_runs() {
    let (one, two) = pair(Options::default()).await;
    let (peers, to) = (one.peers.clone(), two.id);
    let action = one.peers.using(two.id, |_| async move {
        // Each of these takes every lock there is.
        peers.set_members(BTreeMap::from([(to, two.at())]));
        peers.send(to, beacon(1));
        assert_eq!(peers.links().len(), 1);
        peers.using(to, |_| async { Ok(two) }).await
    });
    let two = tokio::time::timeout(Duration::from_secs(10), action).await.expect("no deadlock").unwrap();
    eventually("the message", || two.notes.messages().len() == 1).await;
}

#[tokio::test]
async fn a_broken_link_fails_at_once_and_without_a_dial() {
    let (one, two) = pair(patient()).await;
    one.knows(&[(&two, nowhere().await)]);
    for _ in 0..10 {
        assert!(matches!(one.touch(&two).await, Err(PeerError::Broken)));
    }
    let error = one.touch(&two).await.unwrap_err();
    assert_eq!(error.to_string(), "peer connection broken");
    assert_eq!(one.counted(Count::Dials), 1);
    let link = one.link(&two);
    assert_eq!(link.state, LinkState::Broken);
    assert!(link.last_error.contains("refused"), "{}", link.last_error);
}

#[tokio::test]
async fn a_peer_that_calls_is_dialled_again_at_once() {
    let (one, two, gate) = gated(patient()).await;
    gate.let_through(Pass::Closed);
    assert!(matches!(one.touch(&two).await, Err(PeerError::Broken)));
    gate.let_through(Pass::All);
    assert_eq!((one.link(&two).state, one.counted(Count::Dials)), (LinkState::Broken, 1));
    two.touch(&one).await.unwrap();
    one.link_becomes(&two, LinkState::Connected).await;
    assert_eq!(one.counted(Count::Dials), 2);
}

#[tokio::test]
async fn a_peer_that_hangs_breaks_the_link_and_comes_back() {
    let (one, two, gate) = gated(Options { ping_timeout: Duration::from_millis(200), ..quick() }).await;
    one.touch(&two).await.unwrap();
    gate.let_through(Pass::Nothing);
    let hanging = one.peers.using(two.id, |_| std::future::pending::<Result<(), PeerError>>());
    let ended =
        tokio::time::timeout(Duration::from_secs(10), hanging).await.expect("calls end with the link");
    assert!(matches!(ended, Err(PeerError::Broken)));
    one.link_becomes(&two, LinkState::Broken).await;
    assert!(matches!(one.touch(&two).await, Err(PeerError::Broken)));
    gate.let_through(Pass::All);
    one.link_becomes(&two, LinkState::Connected).await;
    one.touch(&two).await.unwrap();
    assert!(one.link(&two).redials > 0);
    assert_eq!(one.counted(Count::Breaks), 1);
    eventually("connections given up are closed", || gate.open() == 1).await;
}

#[tokio::test]
async fn a_peer_that_dies_breaks_the_link_without_waiting_for_a_ping() {
    let (one, two, gate) = gated(Options { ping_every: Duration::from_secs(3600), ..quick() }).await;
    one.settle(&two).await;
    gate.let_through(Pass::Closed);
    one.link_becomes(&two, LinkState::Broken).await;
}

#[tokio::test]
async fn a_thousand_flaps_leave_nothing_behind() {
    let (one, two, gate) = gated(quick()).await;
    let before = one.settle(&two).await;
    for flap in 1..=1000 {
        gate.cut();
        eventually("the next connection", || {
            one.counted(Count::Breaks) == flap && one.link(&two).state == LinkState::Connected
        })
        .await;
    }
    assert!(gate.made() > 1000);
    eventually("one connection", || gate.open() == 1).await;
    tasks_are(before).await;
    one.touch(&two).await.unwrap();
}

#[tokio::test]
async fn a_link_ends_with_its_membership_and_so_do_its_pings() {
    let (one, two, gate) = gated(quick()).await;
    let before = alive_tasks();
    one.touch(&two).await.unwrap();
    let held = one.peers.using(two.id, |_| std::future::pending::<Result<(), PeerError>>());
    let leaves = async {
        one.peers.set_members(BTreeMap::new());
        assert!(one.peers.links().is_empty());
    };
    let (ended, ()) = tokio::join!(held, leaves);
    assert!(matches!(ended, Err(PeerError::Broken | PeerError::Unknown(_))), "{ended:?}");
    assert!(matches!(one.touch(&two).await, Err(PeerError::Unknown(NodeId(2)))));
    eventually("the connection is closed", || gate.open() == 0).await;
    tasks_are(before).await;
    assert_eq!(gate.made(), 1);
}

#[tokio::test]
async fn a_member_that_moves_is_dialled_where_it_is() {
    let (one, two, gate) = gated(quick()).await;
    one.touch(&two).await.unwrap();
    one.knows(&[(&two, gate.address())]);
    one.touch(&two).await.unwrap();
    assert_eq!(gate.made(), 1, "a member that stays keeps its link");
    one.knows(&[(&two, two.at())]);
    one.touch(&two).await.unwrap();
    assert_eq!(one.link(&two).address, two.at());
    eventually("the old connection is closed", || gate.open() == 0).await;
}

#[tokio::test]
async fn somebody_else_behind_an_address_is_noticed() {
    let (one, two) = pair(quick()).await;
    let three = Node::start(3, quick()).await;
    three.knows(&[(&one, one.at())]);
    one.knows(&[(&two, three.at())]);
    assert!(matches!(one.touch(&two).await, Err(PeerError::Broken)));
    let link = one.link(&two);
    assert!(link.last_error.contains("this is node 3, not 2"), "{}", link.last_error);
    assert!(three.counted(Count::OtherListener) > 0);
}

#[tokio::test]
async fn questions_are_answered() {
    let (one, two) = pair(Options::default()).await;
    let memory = one.peers.memory(two.id, crate::node::GROUP).await.unwrap();
    assert_eq!((memory.node, memory.seen.unwrap().revision), (two.id, 2));
    let refused = one.peers.memory(two.id, mortise_core::ids::GroupId(99)).await.unwrap_err();
    assert!(matches!(refused, PeerError::Refused { code: tonic::Code::NotFound, .. }), "{refused:?}");
    let status = one.peers.status(two.id, crate::node::GROUP).await.unwrap();
    assert_eq!(status, crate::node::status_of(two.id));
}
