//! Peers that do not behave: refused or bounded, counted, and the others are served on.

use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{Stream, iter, pending};
use mortise_core::group::NodeId;
use mortise_core::replica::StreamId;
use mortise_peer::{Count, Options, STREAMS_MAX};
use mortise_proto::v1;
use mortise_proto::v1::peer_client::PeerClient;
use mortise_proto::v1::peer_message::Body;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::gate::{Gate, Pass};
use crate::node::{CLUSTER, GROUP, Node, Told, alive_tasks, append, eventually, pair, quick, tasks_are};

/// What a caller says of itself.
#[derive(Clone)]
struct Claim {
    cluster: String,
    node: u64,
    to: u64,
    protocol: u32,
}

impl Claim {
    /// Node 1 of the cluster, to node 2.
    fn honest() -> Self {
        Self { cluster: format!("{CLUSTER:016x}"), node: 1, to: 2, protocol: 1 }
    }

    fn on<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        let metadata = request.metadata_mut();
        metadata.insert("mortise-cluster", self.cluster.parse().unwrap());
        metadata.insert("mortise-node", self.node.into());
        metadata.insert("mortise-to", self.to.into());
        metadata.insert("mortise-protocol", self.protocol.into());
        request
    }

    fn on_stream<T>(&self, stream: u64, body: T) -> Request<T> {
        let mut request = self.on(body);
        request.metadata_mut().insert("mortise-group", GROUP.0.into());
        request.metadata_mut().insert("mortise-stream", stream.into());
        request
    }
}

type Messages = Pin<Box<dyn Stream<Item = v1::PeerMessage> + Send>>;

fn silence() -> Messages {
    pending().boxed()
}

fn says(messages: Vec<v1::PeerMessage>) -> Messages {
    iter(messages).chain(pending()).boxed()
}

async fn dial(address: &str) -> PeerClient<Channel> {
    PeerClient::new(Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap())
}

/// A node 2 that knows a node 1, and somebody who speaks for that.
async fn attacked(options: Options) -> (Node, Node, PeerClient<Channel>) {
    let (one, two) = pair(options).await;
    let mut attacker = dial(&two.at()).await;
    attacker.ping(Claim::honest().on(v1::PingRequest::default())).await.unwrap();
    (one, two, attacker)
}

/// A stream on which nothing is said. It is reset when both are dropped: without its end the request would live on.
type Open = (mpsc::Sender<v1::PeerMessage>, Streaming<v1::PeerMessage>);

async fn open(attacker: &mut PeerClient<Channel>, group: u64, stream: u64) -> Result<Open, Status> {
    let (sender, messages) = mpsc::channel(1);
    let mut request = Claim::honest().on_stream(stream, ReceiverStream::new(messages));
    request.metadata_mut().insert("mortise-group", group.into());
    let call = attacker.replicate(request).await?;
    Ok((sender, call.into_inner()))
}

/// How a stream ends.
async fn end_of(mut answers: Streaming<v1::PeerMessage>) -> Result<(), Status> {
    while answers.message().await?.is_some() {}
    Ok(())
}

/// A stream of the real node 1 still works.
async fn lives_on(one: &Node, two: &Node) {
    let stream = 1_000_000;
    one.peers.open_stream(GROUP, two.id, StreamId(stream));
    one.notes.hears(&Told::Opened(two.id, StreamId(stream))).await;
    one.peers.send(two.id, append(stream, 1, 10));
    two.notes.hears(&Told::Message(one.id, append(stream, 1, 10))).await;
}

fn fence(group: u64, stream: u64) -> Option<v1::Fence> {
    Some(v1::Fence { cluster: CLUSTER, group, stream, ..v1::Fence::default() })
}

fn empty_append(stream: u64, entries: Vec<u8>) -> v1::PeerMessage {
    let append = v1::AppendBody { entries: entries.into(), ..v1::AppendBody::default() };
    v1::PeerMessage { fence: fence(GROUP.0, stream), body: Some(Body::Append(append)) }
}

#[tokio::test]
async fn strangers_are_refused_and_told_why() {
    let (one, two, mut attacker) = attacked(quick()).await;
    let honest = Claim::honest();
    let cases = [
        (
            Claim { cluster: "1".into(), ..honest.clone() },
            Code::FailedPrecondition,
            Count::OtherCluster,
            "cluster",
        ),
        (
            Claim { cluster: "?".into(), ..honest.clone() },
            Code::InvalidArgument,
            Count::Unmarked,
            "who speaks",
        ),
        (
            Claim { to: 3, ..honest.clone() },
            Code::FailedPrecondition,
            Count::OtherListener,
            "this is node 2, not 3",
        ),
        (
            Claim { protocol: 3, ..honest.clone() },
            Code::Unimplemented,
            Count::OtherProtocol,
            "protocol version 3",
        ),
        (
            Claim { node: 5, ..honest.clone() },
            Code::PermissionDenied,
            Count::UnknownNode,
            "node 5 is not a member",
        ),
        (
            Claim { node: 2, ..honest.clone() },
            Code::PermissionDenied,
            Count::UnknownNode,
            "node 2 is not a member",
        ),
        (Claim { node: 0, ..honest.clone() }, Code::InvalidArgument, Count::Unmarked, "who speaks"),
    ];
    for (claim, code, count, words) in cases {
        let before = two.counted(count);
        let ping = attacker.ping(claim.on(v1::PingRequest::default())).await.unwrap_err();
        let control = attacker.control(claim.on(silence())).await.unwrap_err();
        let stream = attacker.replicate(claim.on_stream(1, silence())).await.unwrap_err();
        let snapshot =
            attacker.fetch_snapshot(claim.on(v1::FetchSnapshotRequest::default())).await.unwrap_err();
        let memory = attacker.memory(claim.on(v1::MemoryRequest::default())).await.unwrap_err();
        let status = attacker.member_status(claim.on(v1::MemberStatusRequest::default())).await.unwrap_err();
        for refusal in [ping, control, stream, snapshot, memory, status] {
            assert_eq!(refusal.code(), code, "{refusal}");
            assert!(refusal.message().contains(words), "{refusal}");
        }
        assert_eq!(two.counted(count), before + 6);
    }
    let unmarked = attacker.ping(v1::PingRequest::default()).await.unwrap_err();
    assert_eq!(unmarked.code(), Code::InvalidArgument);
    for protocol in [0, 1, 2] {
        let neighbour = Claim { protocol, ..honest.clone() };
        attacker.ping(neighbour.on(v1::PingRequest::default())).await.unwrap();
    }
    lives_on(&one, &two).await;
}

#[tokio::test]
async fn messages_that_do_not_belong_or_are_malformed_end_their_stream() {
    let (one, two, mut attacker) = attacked(quick()).await;
    let of_others = v1::PeerMessage { fence: fence(GROUP.0 + 1, 1), ..empty_append(1, vec![]) };
    let cases = [
        empty_append(2, vec![]),
        of_others,
        v1::PeerMessage::default(),
        empty_append(1, vec![1]),
        empty_append(1, vec![0xff; 40]),
    ];
    for (number, bad) in cases.into_iter().enumerate() {
        let call = attacker.replicate(Claim::honest().on_stream(1, says(vec![bad]))).await.unwrap();
        let ended = end_of(call.into_inner()).await.unwrap_err();
        assert_eq!(ended.code(), Code::InvalidArgument, "{ended}");
        assert_eq!(two.counted(Count::Malformed), number as u64 + 1);
    }
    let on_stream = attacker.control(Claim::honest().on(says(vec![empty_append(1, vec![])]))).await;
    assert_eq!(on_stream.unwrap_err().code(), Code::InvalidArgument);
    let nameless = attacker.replicate(Claim::honest().on(silence())).await.unwrap_err();
    assert_eq!(nameless.code(), Code::InvalidArgument);
    let zero = attacker.replicate(Claim::honest().on_stream(0, silence())).await.unwrap_err();
    assert_eq!(zero.code(), Code::InvalidArgument);
    assert_eq!(two.notes.messages(), []);
    lives_on(&one, &two).await;
}

#[tokio::test]
async fn a_group_that_is_not_here_is_refused_and_costs_only_its_own_messages() {
    let (one, two, mut attacker) = attacked(quick()).await;
    let beacon = |group| v1::PeerMessage {
        fence: fence(group, 0),
        body: Some(Body::Beacon(v1::BeaconBody::default())),
    };
    let (sender, messages) = mpsc::channel(8);
    let mut caller = attacker.clone();
    let control =
        tokio::spawn(async move { caller.control(Claim::honest().on(ReceiverStream::new(messages))).await });
    for group in [GROUP.0 + 1, GROUP.0] {
        sender.send(beacon(group)).await.unwrap();
    }
    eventually("the message behind it", || two.notes.messages().len() == 1).await;
    assert_eq!(two.counted(Count::Refused), 1);
    drop(sender);
    control.await.unwrap().unwrap();

    let mut elsewhere = Claim::honest()
        .on_stream(1, says(vec![v1::PeerMessage { fence: fence(99, 1), ..empty_append(1, vec![]) }]));
    elsewhere.metadata_mut().insert("mortise-group", 99u64.into());
    let call = attacker.replicate(elsewhere).await.unwrap();
    assert_eq!(end_of(call.into_inner()).await.unwrap_err().code(), Code::NotFound);
    lives_on(&one, &two).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_not_read() {
    let (one, two, mut attacker) = attacked(Options { message_bytes_max: 1 << 20, ..quick() }).await;
    let gigabytes = iter((0..4096).map(|_| empty_append(1, vec![0; 1 << 20]))).boxed();
    let call = attacker.replicate(Claim::honest().on_stream(1, gigabytes)).await.unwrap();
    let ended = end_of(call.into_inner()).await.unwrap_err();
    assert_eq!(ended.code(), Code::OutOfRange, "{ended}");
    assert_eq!(two.counted(Count::TooLarge), 1);
    lives_on(&one, &two).await;
}

#[tokio::test]
async fn a_peer_has_so_many_streams_and_no_more() {
    let (one, two, mut attacker) = attacked(quick()).await;
    let before = alive_tasks();
    let mut calls = Vec::new();
    for stream in 1..=STREAMS_MAX as u64 {
        calls.push(open(&mut attacker, stream, 1).await.unwrap());
    }
    let more = attacker.replicate(Claim::honest().on_stream(1000, silence())).await.unwrap_err();
    assert_eq!(more.code(), Code::ResourceExhausted);
    assert_eq!(two.counted(Count::TooManyStreams), 1);
    // Places come back.
    drop(calls);
    tasks_are(before).await;
    lives_on(&one, &two).await;
}

#[tokio::test]
async fn a_newer_stream_of_the_same_leader_and_group_ends_the_older_one() {
    let (_one, two, mut attacker) = attacked(quick()).await;
    let (_other, mut untouched) = open(&mut attacker, GROUP.0 + 1, 1).await.unwrap();
    for (older, newer) in [(1, 1), (2, 3), (9, 4)] {
        let (_before, ends) = open(&mut attacker, GROUP.0, older).await.unwrap();
        let (_after, mut lives) = open(&mut attacker, GROUP.0, newer).await.unwrap();
        assert_eq!(end_of(ends).await.unwrap_err().code(), Code::Aborted);
        two.peers.send(NodeId(1), crate::node::durable(newer, 1));
        assert!(lives.message().await.unwrap().is_some());
    }
    let mut elsewhere = crate::node::durable(1, 1);
    elsewhere.fence.group.0 += 1;
    two.peers.send(NodeId(1), elsewhere);
    assert!(untouched.message().await.unwrap().is_some());
}

#[tokio::test]
async fn a_newer_control_call_ends_the_older_one() {
    let (_one, _two, attacker) = attacked(quick()).await;
    let (mut first, mut second) = (attacker.clone(), attacker);
    let older = Box::pin(first.control(Claim::honest().on(silence())));
    let newer = Box::pin(second.control(Claim::honest().on(silence())));
    // Whichever came first.
    let (ended, _) = futures::future::select(older, newer).await.factor_first();
    assert_eq!(ended.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn who_opens_and_closes_quickly_is_slowed_down_and_leaves_nothing() {
    let (_one, two, mut attacker) = attacked(Options { opens_per_second_max: 50, ..quick() }).await;
    let before = alive_tasks();
    let mut refused = 0;
    for stream in 1..=2000 {
        match open(&mut attacker, stream, 1).await {
            Ok(call) => drop(call),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                refused += 1;
            }
        }
    }
    assert!(refused > 1000, "{refused} refused");
    assert_eq!(two.counted(Count::TooManyOpens), refused);
    // Pings are answered all the same.
    attacker.ping(Claim::honest().on(v1::PingRequest::default())).await.unwrap();
    tasks_are(before).await;
}

#[tokio::test]
async fn a_half_closed_stream_ends() {
    let (one, two, mut attacker) = attacked(quick()).await;
    let before = alive_tasks();
    for stream in 1..=200 {
        let nothing: Messages = iter([]).boxed();
        let call = attacker.replicate(Claim::honest().on_stream(stream, nothing)).await.unwrap();
        end_of(call.into_inner()).await.unwrap();
    }
    tasks_are(before).await;
    lives_on(&one, &two).await;
}

#[tokio::test]
async fn a_message_that_never_ends_is_given_up() {
    let (one, two) = pair(Options { stream_idle_max: Duration::from_millis(300), ..quick() }).await;
    let gate = Gate::before(two.address).await;
    let mut attacker = dial(&gate.address()).await;
    let (sender, messages) = mpsc::channel(1);
    let call = attacker.replicate(Claim::honest().on_stream(1, ReceiverStream::new(messages))).await.unwrap();
    let before = two.counted(Count::Idle);
    // Sixteen megabytes begin, and the gate closes behind the first of them.
    sender.send(empty_append(1, vec![0; 16 << 20])).await.unwrap();
    gate.let_through(Pass::Nothing);
    eventually("the stream is given up", || two.counted(Count::Idle) == before + 1).await;
    gate.let_through(Pass::All);
    assert_eq!(end_of(call.into_inner()).await.unwrap_err().code(), Code::DeadlineExceeded);
    lives_on(&one, &two).await;
}

#[tokio::test]
async fn control_messages_for_a_group_that_hangs_are_lost_and_not_waited_for() {
    let (one, two, _) = attacked(quick()).await;
    one.peers.open_stream(GROUP, two.id, StreamId(1));
    one.notes.hears(&Told::Opened(two.id, StreamId(1))).await;
    two.notes.is_deaf.send_replace(true);
    one.peers.send(two.id, crate::node::beacon(1));
    eventually("the message is lost", || two.counted(Count::Lost) == 1).await;
    two.notes.is_deaf.send_replace(false);
    one.peers.send(two.id, crate::node::beacon(2));
    two.notes.hears(&Told::Message(one.id, crate::node::beacon(2))).await;
}
