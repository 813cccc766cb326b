//! Replication streams: order, flow control, and how they end.

use std::time::Duration;

use mortise_core::group::NodeId;
use mortise_core::replica::{Body, StreamId};
use mortise_peer::{Count, LinkState, Options};

use crate::gate::{Gate, Pass};
use crate::node::{GROUP, Node, Told, append, beacon, durable, eventually, message, pair, quick, tasks_are};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

fn opened(peer: NodeId, stream: u64) -> Told {
    Told::Opened(peer, StreamId(stream))
}

fn closed(peer: NodeId, stream: u64) -> Told {
    Told::Closed(peer, StreamId(stream))
}

/// Two nodes, and a stream from the first to the second.
async fn with_stream(options: Options, stream: u64) -> (Node, Node) {
    let (one, two) = pair(options).await;
    one.peers.open_stream(GROUP, TWO, StreamId(stream));
    one.notes.hears(&opened(TWO, stream)).await;
    (one, two)
}

#[tokio::test]
async fn messages_travel_both_ways_in_order() {
    let (one, two) = pair(Options::default()).await;
    one.peers.open_stream(GROUP, TWO, StreamId(5));
    // Said before it is open: it waits.
    one.peers.send(TWO, message(5, Body::Open));
    one.notes.hears(&opened(TWO, 5)).await;
    two.notes.hears(&Told::Message(ONE, message(5, Body::Open))).await;
    for index in 1..=500 {
        one.peers.send(TWO, append(5, index, 100));
        two.peers.send(ONE, durable(5, index));
    }
    let sent: Vec<_> =
        std::iter::once(message(5, Body::Open)).chain((1..=500).map(|index| append(5, index, 100))).collect();
    eventually("all appends", || two.notes.messages().len() == sent.len()).await;
    assert_eq!(two.notes.messages(), sent);
    eventually("all acknowledgements", || one.notes.messages().len() == 500).await;
    assert_eq!(one.notes.messages(), (1..=500).map(|index| durable(5, index)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_of_64_mib_arrives() {
    let (one, two) = with_stream(Options::default(), 1).await;
    let large = append(1, 1, 64 << 20);
    one.peers.send(TWO, large.clone());
    two.notes.hears(&Told::Message(ONE, large)).await;
}

/// After a change of leader both may have opened a stream of the same number.
#[tokio::test]
async fn streams_of_one_number_in_both_directions_are_two() {
    let (one, two) = with_stream(Options::default(), 3).await;
    two.peers.open_stream(GROUP, ONE, StreamId(3));
    two.notes.hears(&opened(ONE, 3)).await;
    one.peers.send(TWO, append(3, 1, 10));
    two.peers.send(ONE, append(3, 2, 10));
    one.peers.send(TWO, durable(3, 2));
    two.peers.send(ONE, durable(3, 1));
    for (node, peer, index) in [(&two, ONE, 1), (&one, TWO, 2)] {
        node.notes.hears(&Told::Message(peer, append(3, index, 10))).await;
    }
    one.peers.close_stream(GROUP, TWO, StreamId(3));
    // The other one lives on.
    two.peers.send(ONE, append(3, 3, 10));
    one.notes.hears(&Told::Message(TWO, append(3, 3, 10))).await;
    one.notes.hears(&Told::Message(TWO, durable(3, 1))).await;
    assert_eq!(two.notes.count(|told| *told == closed(ONE, 3)), 0);
}

#[tokio::test]
async fn a_stream_that_is_not_read_stops_neither_control_messages_nor_pings() {
    let options = Options { ping_timeout: Duration::from_millis(500), ..quick() };
    let (one, two) = with_stream(options, 1).await;
    two.notes.has_room.send_replace(false);
    for index in 1..=60 {
        one.peers.send(TWO, append(1, index, 1 << 20));
    }
    for round in 1..=20 {
        one.peers.send(TWO, beacon(round));
        two.notes.hears(&Told::Message(ONE, beacon(round))).await;
    }
    one.peers.status(TWO, GROUP).await.unwrap();
    assert_eq!(one.link(&two).state, LinkState::Connected);
    assert_eq!(one.counted(Count::Breaks), 0);
    assert_eq!(two.notes.messages().len(), 20, "and the stream has not moved");
    two.notes.has_room.send_replace(true);
    two.notes.hears(&Told::Message(ONE, append(1, 60, 1 << 20))).await;
}

#[tokio::test]
async fn a_stream_whose_queue_is_full_is_closed_once_and_told() {
    let (one, two) = with_stream(quick(), 1).await;
    two.notes.has_room.send_replace(false);
    for index in 1..=200 {
        one.peers.send(TWO, append(1, index, 1 << 20));
    }
    one.notes.hears(&closed(TWO, 1)).await;
    assert_eq!(one.counted(Count::Overflow), 1);
    // What comes after a gap is not sent.
    one.peers.send(TWO, append(1, 201, 1));
    two.notes.has_room.send_replace(true);
    one.peers.open_stream(GROUP, TWO, StreamId(2));
    one.notes.hears(&opened(TWO, 2)).await;
    one.peers.send(TWO, append(2, 1, 1));
    two.notes.hears(&Told::Message(ONE, append(2, 1, 1))).await;
    assert_eq!(one.notes.count(|told| *told == closed(TWO, 1)), 1);
    assert_eq!(two.notes.count(|told| *told == Told::Message(ONE, append(1, 201, 1))), 0);
}

/// HTTP/2 keeps what was given to it as long as the other side does not read.
#[tokio::test]
async fn streams_that_nobody_reads_do_not_pile_up() {
    let (one, two) = pair(quick()).await;
    let before = one.settle(&two).await;
    two.notes.has_room.send_replace(false);
    for stream in 1..=20 {
        one.peers.open_stream(GROUP, TWO, StreamId(stream));
        one.notes.hears(&opened(TWO, stream)).await;
        for index in 1..=100 {
            one.peers.send(TWO, append(stream, index, 1 << 20));
        }
        one.notes.hears(&closed(TWO, stream)).await;
    }
    // The newest one may hang; those before are gone.
    tasks_are(before + 5).await;
    two.notes.has_room.send_replace(true);
    tasks_are(before).await;
}

/// The follower's side of the same.
#[tokio::test]
async fn a_follower_that_is_not_heard_closes_the_stream() {
    let (one, two) = with_stream(quick(), 1).await;
    one.notes.has_room.send_replace(false);
    eventually("a full queue", || {
        (0..5000).for_each(|index| two.peers.send(ONE, durable(1, index)));
        two.counted(Count::Overflow) == 1
    })
    .await;
    // The leader hears of it when it has heard what was said before.
    one.notes.has_room.send_replace(true);
    one.notes.hears(&closed(TWO, 1)).await;
}

#[tokio::test]
async fn a_stream_that_is_given_up_ends_on_both_sides_and_is_not_told() {
    let (one, two) = pair(quick()).await;
    let before = one.settle(&two).await;
    one.peers.open_stream(GROUP, TWO, StreamId(1));
    one.notes.hears(&opened(TWO, 1)).await;
    one.peers.close_stream(GROUP, TWO, StreamId(1));
    tasks_are(before).await;
    let lost = two.counted(Count::Lost);
    two.peers.send(ONE, durable(1, 1));
    assert_eq!(two.counted(Count::Lost), lost + 1, "the follower has forgotten it");
    assert_eq!(one.notes.count(|told| *told == closed(TWO, 1)), 0);
}

#[tokio::test]
async fn a_stream_ends_with_its_connection_and_that_is_told() {
    let (one, two) = pair(Options::default()).await;
    let gate = Gate::before(two.address).await;
    one.knows(&[(&two, gate.address())]);
    one.peers.open_stream(GROUP, TWO, StreamId(1));
    one.notes.hears(&opened(TWO, 1)).await;
    gate.let_through(Pass::Closed);
    one.notes.hears(&closed(TWO, 1)).await;
    one.link_becomes(&two, LinkState::Broken).await;
    one.peers.open_stream(GROUP, TWO, StreamId(2));
    one.notes.hears(&closed(TWO, 2)).await;
    assert_eq!(one.notes.count(|told| *told == opened(TWO, 2)), 0);
}

#[tokio::test]
async fn a_stream_to_nobody_or_to_a_member_that_leaves_is_told_closed() {
    let (one, two) = with_stream(quick(), 1).await;
    one.peers.open_stream(GROUP, NodeId(9), StreamId(2));
    one.notes.hears(&closed(NodeId(9), 2)).await;
    one.knows(&[]);
    one.notes.hears(&closed(TWO, 1)).await;
    // And here: the follower's side ends when the leader leaves.
    one.knows(&[(&two, two.at())]);
    one.peers.open_stream(GROUP, TWO, StreamId(3));
    one.notes.hears(&opened(TWO, 3)).await;
    two.knows(&[]);
    one.notes.hears(&closed(TWO, 3)).await;
}

#[tokio::test]
async fn control_messages_that_find_no_room_or_no_connection_are_lost_and_counted() {
    let (one, two) = pair(quick()).await;
    one.peers.send(NodeId(9), beacon(1));
    assert_eq!(one.counted(Count::Lost), 1);
    // The first use dials.
    one.peers.send(TWO, beacon(2));
    one.link_becomes(&two, LinkState::Connected).await;
    one.peers.send(TWO, beacon(3));
    two.notes.hears(&Told::Message(ONE, beacon(3))).await;
}

/// A driver is a thread of its own.
#[tokio::test]
async fn messages_may_be_sent_from_any_thread() {
    let (one, two) = pair(quick()).await;
    let peers = one.peers.clone();
    let thread = std::thread::spawn(move || {
        peers.open_stream(GROUP, TWO, StreamId(1));
        peers.send(TWO, append(1, 1, 10));
        peers.send(TWO, beacon(1));
    });
    two.notes.hears(&Told::Message(ONE, append(1, 1, 10))).await;
    thread.join().unwrap();
}
