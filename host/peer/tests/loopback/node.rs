//! A node with a group that only takes notes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use mortise_core::group::{BootId, Generation, Incarnation, NodeId};
use mortise_core::ids::{Epoch, GroupId, LogIndex};
use mortise_core::replica::{Body, Fence, LogEntry, Memory, Message, Position, RoleKind, Seen, StreamId};
use mortise_peer::{
    CALLS_PER_CONNECTION_MAX, CONNECTION_WINDOW_BYTES, Count, Identity, LinkState, LinkStatus, Local,
    MemberStatus, Options, Peers, Refusal, STREAM_WINDOW_BYTES, SnapshotSource, Tls,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Server, ServerTlsConfig};

pub(crate) const CLUSTER: u64 = 0xfeed;
pub(crate) const GROUP: GroupId = GroupId(7);

/// What the node was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Message(NodeId, Message),
    Opened(NodeId, StreamId),
    Closed(NodeId, StreamId),
}

/// Answers to the question for a snapshot.
pub(crate) type Snapshots = Box<dyn Fn() -> Result<Arc<dyn SnapshotSource>, Refusal> + Send + Sync>;

pub(crate) struct Notes {
    node: NodeId,
    pub(crate) told: Mutex<Vec<Told>>,
    /// Whether messages of streams are taken.
    pub(crate) has_room: watch::Sender<bool>,
    /// Whether messages beside streams find no room.
    pub(crate) is_deaf: watch::Sender<bool>,
    pub(crate) snapshots: Mutex<Option<Snapshots>>,
    /// Questions for a snapshot so far.
    pub(crate) asked: Mutex<usize>,
}

impl Local for Notes {
    fn deliver(&self, from: NodeId, message: Message) -> BoxFuture<'_, Result<(), Refusal>> {
        async move {
            if message.fence.group != GROUP {
                return Err(Refusal::NoSuchGroup(message.fence.group));
            }
            if message.fence.stream == StreamId(0) {
                let _ = self.is_deaf.subscribe().wait_for(|is_deaf| !is_deaf).await;
            } else {
                let _ = self.has_room.subscribe().wait_for(|has_room| *has_room).await;
            }
            self.note(Told::Message(from, message));
            Ok(())
        }
        .boxed()
    }

    fn stream_opened(&self, _: GroupId, peer: NodeId, stream: StreamId) {
        self.note(Told::Opened(peer, stream));
    }

    fn stream_closed(&self, _: GroupId, peer: NodeId, stream: StreamId) {
        self.note(Told::Closed(peer, stream));
    }

    fn snapshot(&self, _: GroupId, index: LogIndex) -> Result<Arc<dyn SnapshotSource>, Refusal> {
        *self.asked.lock().unwrap() += 1;
        match &*self.snapshots.lock().unwrap() {
            Some(snapshots) => snapshots(),
            None => Err(Refusal::NoSuchSnapshot(index)),
        }
    }

    fn memory(&self, group: GroupId) -> BoxFuture<'_, Result<Memory, Refusal>> {
        let seen = Seen { coordinator: 1, revision: 2, mod_revision: 3, record: None };
        let memory = Memory { node: self.node, epoch: Epoch(4), seen: Some(seen), reach: None, frozen: true };
        let answer = if group == GROUP { Ok(memory) } else { Err(Refusal::NoSuchGroup(group)) };
        async { answer }.boxed()
    }

    fn status(&self, _: GroupId) -> BoxFuture<'_, Result<MemberStatus, Refusal>> {
        async { Ok(status_of(self.node)) }.boxed()
    }
}

pub(crate) fn status_of(node: NodeId) -> MemberStatus {
    MemberStatus {
        node,
        role: RoleKind::Follower,
        serving: false,
        epoch: Epoch(1),
        generation: Generation(1),
        incarnation: Incarnation(1),
        last: Position::default(),
        durable: LogIndex(0),
        commit: LogIndex(0),
        applied: LogIndex(0),
        digest: None,
        frozen: false,
        quarantined: None,
        isr: vec![node],
        links: Vec::new(),
    }
}

impl Notes {
    fn note(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Told) -> bool) -> usize {
        self.told.lock().unwrap().iter().filter(|told| wanted(told)).count()
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        let told = self.told.lock().unwrap();
        let messages = told.iter().filter_map(|told| match told {
            Told::Message(_, message) => Some(message.clone()),
            _ => None,
        });
        messages.collect()
    }

    pub(crate) async fn hears(&self, what: &Told) {
        eventually(&format!("{what:?}"), || self.count(|told| told == what) > 0).await;
    }
}

/// A node; its listener ends with it.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) peers: Peers,
    pub(crate) notes: Arc<Notes>,
    pub(crate) address: SocketAddr,
    server: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(id: u64, options: Options) -> Self {
        Self::start_under(id, options, None).await
    }

    pub(crate) async fn start_under(id: u64, options: Options, tls: Option<(Tls, ServerTlsConfig)>) -> Self {
        let id = NodeId(id);
        let notes = Arc::new(Notes {
            node: id,
            told: Mutex::default(),
            has_room: watch::Sender::new(true),
            is_deaf: watch::Sender::new(false),
            snapshots: Mutex::new(None),
            asked: Mutex::new(0),
        });
        let local: Weak<dyn Local> = Arc::downgrade(&notes) as Weak<dyn Local>;
        let (tls, server_tls) = tls.unzip();
        let peers = Peers::new(Identity { cluster: CLUSTER, node: id }, options, tls, local);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Server::builder();
        if let Some(tls) = server_tls {
            server = server.tls_config(tls).unwrap();
        }
        let serving = server
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
            .add_routes(peers.service())
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { id, peers, notes, address, server }
    }

    /// Makes `others` the members, where they are.
    pub(crate) fn knows(&self, others: &[(&Node, String)]) {
        let members = others.iter().map(|(node, address)| (node.id, address.clone()));
        self.peers.set_members(members.collect());
    }

    pub(crate) fn at(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn counted(&self, count: Count) -> u64 {
        let counters: BTreeMap<_, _> = self.peers.counters().into_iter().collect();
        counters[&count]
    }

    pub(crate) fn link(&self, peer: &Node) -> LinkStatus {
        let links = self.peers.links();
        links.into_iter().find(|link| link.peer == peer.id).expect("a link to a member")
    }

    pub(crate) async fn link_becomes(&self, peer: &Node, state: LinkState) {
        eventually(&format!("{state:?}"), || self.link(peer).state == state).await;
    }

    /// Connects to `peer`, and counts the tasks when all that goes with a link is running.
    pub(crate) async fn settle(&self, peer: &Node) -> usize {
        self.touch(peer).await.unwrap();
        self.peers.send(peer.id, beacon(0));
        peer.notes.hears(&Told::Message(self.id, beacon(0))).await;
        alive_tasks()
    }

    /// Uses the link, for nothing.
    pub(crate) async fn touch(&self, peer: &Node) -> Result<(), mortise_peer::PeerError> {
        self.peers.using(peer.id, |_| async { Ok(()) }).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Two nodes that know each other, and no gate.
pub(crate) async fn pair(options: Options) -> (Node, Node) {
    let (one, two) = (Node::start(1, options.clone()).await, Node::start(2, options).await);
    one.knows(&[(&two, two.at())]);
    two.knows(&[(&one, one.at())]);
    (one, two)
}

/// Links that find out soon.
pub(crate) fn quick() -> Options {
    Options {
        ping_every: Duration::from_millis(50),
        redial_min: Duration::from_millis(1),
        redial_max: Duration::from_millis(4),
        ..Options::default()
    }
}

/// Waits for a condition, and fails when it does not come.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until no more tasks are alive than before.
pub(crate) async fn tasks_are(before: usize) {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    eventually(&format!("{before} tasks, and not {}", alive()), || alive() <= before).await;
}

pub(crate) fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

pub(crate) fn message(stream: u64, body: Body) -> Message {
    let fence = Fence {
        cluster: CLUSTER,
        group: GROUP,
        generation: Generation(1),
        epoch: Epoch(1),
        boot: BootId(1),
        from: Incarnation(1),
        to: Incarnation(2),
        stream: StreamId(stream),
    };
    Message { fence, body }
}

pub(crate) fn beacon(round: u64) -> Message {
    message(0, Body::Beacon { round, commit: LogIndex(0) })
}

pub(crate) fn durable(stream: u64, index: u64) -> Message {
    message(stream, Body::Durable { index: LogIndex(index), applied: None, rebuild: None })
}

pub(crate) fn append(stream: u64, index: u64, bytes: usize) -> Message {
    let at = |index| Position { epoch: Epoch(1), index: LogIndex(index) };
    let entry = LogEntry { at: at(index), payload: Bytes::from(vec![index as u8; bytes]) };
    message(stream, Body::Append { previous: at(index - 1), entries: vec![entry], commit: LogIndex(0) })
}
