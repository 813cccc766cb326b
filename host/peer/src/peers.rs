//! The links of a node, for the node.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use mortise_core::group::NodeId;
use mortise_core::ids::{GroupId, LogIndex};
use mortise_core::replica::{Memory, Message, StreamId};
use mortise_proto::v1;
use tokio::time::timeout;
use tonic::service::Routes;

use crate::certificate::Tls;
use crate::counters::Count;
use crate::error::PeerError;
use crate::fetch::fetch;
use crate::link::{self, Client};
use crate::local::{Local, SnapshotSink};
use crate::options::{Identity, Options};
use crate::queue::Full;
use crate::service::routes;
use crate::shared::{Member, Shared};
use crate::status::{LinkStatus, MemberStatus};
use crate::streams::{self, Key, Opened, Streams};
use crate::wire::{memory_from_wire, status_from_wire};

/// The links of a node to its peers, and what its peers reach here. Cheap to clone; with the last clone everything ends.
#[derive(Clone)]
pub struct Peers(Arc<Owner>);

/// Ends everything when it is dropped. Tasks hold what is shared, and not this.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Peers {
    /// Without members: see [`Peers::set_members`]. With `tls` peers are dialled under TLS, and calls are taken only under the
    /// caller's own certificate, where certificates name their nodes. The node is held weakly, since it holds this.
    ///
    /// # Panics
    /// Outside a tokio runtime, which later carries all tasks.
    pub fn new(identity: Identity, options: Options, tls: Option<Tls>, local: Weak<dyn Local>) -> Self {
        Self(Arc::new(Owner(Arc::new(Shared::new(identity, options, tls, local)))))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    fn member(&self, peer: NodeId) -> Result<Arc<Member>, PeerError> {
        self.shared().member(peer).ok_or(PeerError::Unknown(peer))
    }

    /// Who the members of the cluster are and where (host:port) their peer listeners are. This node itself may be among
    /// them. Links, streams and calls of a member that left or moved end; a new one is dialled on first use.
    pub fn set_members(&self, members: BTreeMap<NodeId, String>) {
        self.shared().set_members(members);
    }

    /// Sends a message: on the stream that its fence names, or beside all streams where it names none. Never blocks, and may
    /// be called on any thread. Messages may be lost, those of a stream only with it: a stream whose queue is full is
    /// closed, and that is told.
    pub fn send(&self, to: NodeId, message: Message) {
        let shared = self.shared();
        if message.fence.stream != StreamId(0) {
            return Streams::put(shared, to, message);
        }
        let Some(member) = shared.member(to) else { return shared.counters.add(Count::Lost) };
        let sent = match member.link.connected() {
            Some(connection) => connection.control.push(message),
            None => {
                link::start(shared, &member);
                Err(Full)
            }
        };
        if sent.is_err() {
            shared.counters.add(Count::Lost);
        }
    }

    /// Opens a replication stream to a follower. [`Local::stream_opened`] or [`Local::stream_closed`] tells what came of
    /// it, from another thread. What is sent on it meanwhile waits in its queue. Never blocks.
    pub fn open_stream(&self, group: GroupId, peer: NodeId, stream: StreamId) {
        streams::open(self.shared(), group, peer, stream);
    }

    /// Gives up a stream that was opened by [`Peers::open_stream`]; nothing is told of it from here on.
    pub fn close_stream(&self, group: GroupId, peer: NodeId, stream: StreamId) {
        self.shared().streams.close(Key { group, peer, stream, opened: Opened::Here });
    }

    /// Lets `action` call a peer, over the link that all calls share. Dials on first use, and fails at once while the link
    /// is broken, or as soon as it breaks. The action bounds its own time.
    ///
    /// # Errors
    /// [`PeerError::Unknown`], [`PeerError::Broken`], [`PeerError::Closed`], and what the action fails with.
    pub async fn using<T, F>(&self, peer: NodeId, action: impl FnOnce(Client) -> F) -> Result<T, PeerError>
    where
        F: Future<Output = Result<T, PeerError>>,
    {
        let connection = link::connection(self.shared(), &self.member(peer)?).await?;
        tokio::select! {
            () = connection.stop.stopped() => Err(PeerError::Broken),
            done = action(connection.client) => done,
        }
    }

    /// Fetches the snapshot of a group whose last entry is at `index` into `sink`, from its first byte on. Goes on after
    /// breaks, as long as each attempt brings something or few in a row bring nothing. Gives back the sink and the
    /// snapshot's size in bytes.
    ///
    /// # Errors
    /// As [`Peers::using`]; [`PeerError::Chunk`] where what comes is not what was sent; [`PeerError::Sink`].
    pub async fn fetch_snapshot<S: SnapshotSink>(
        &self,
        peer: NodeId,
        group: GroupId,
        index: LogIndex,
        sink: S,
    ) -> Result<(S, u64), PeerError> {
        fetch(self.shared(), &self.member(peer)?, group, index, sink).await
    }

    /// What a peer remembers of the group's record.
    ///
    /// # Errors
    /// As [`Peers::using`]; [`PeerError::Timeout`].
    pub async fn memory(&self, peer: NodeId, group: GroupId) -> Result<Memory, PeerError> {
        let request = v1::MemoryRequest { group: group.0 };
        let ask = |mut client: Client| async move { Ok(client.memory(request).await?.into_inner()) };
        Ok(memory_from_wire(self.ask(peer, ask).await?)?)
    }

    /// How a peer is, as a member of the group.
    ///
    /// # Errors
    /// As [`Peers::using`]; [`PeerError::Timeout`].
    pub async fn status(&self, peer: NodeId, group: GroupId) -> Result<MemberStatus, PeerError> {
        let request = v1::MemberStatusRequest { group: group.0 };
        let ask = |mut client: Client| async move { Ok(client.member_status(request).await?.into_inner()) };
        Ok(status_from_wire(self.ask(peer, ask).await?)?)
    }

    async fn ask<T, F>(&self, peer: NodeId, action: impl FnOnce(Client) -> F) -> Result<T, PeerError>
    where
        F: Future<Output = Result<T, PeerError>>,
    {
        let answered = timeout(self.shared().options.answer_timeout, self.using(peer, action)).await;
        answered.unwrap_or(Err(PeerError::Timeout))
    }

    /// How all links are, by node.
    pub fn links(&self) -> Vec<LinkStatus> {
        let members = self.shared().members();
        members.iter().filter_map(|member| member.link.status(member.node)).collect()
    }

    /// What was refused or lost, and how often links were dialled and broke.
    pub fn counters(&self) -> Vec<(Count, u64)> {
        self.shared().counters.all()
    }

    /// The service that peers call, for a listener of its own. That demands the certificates of members where TLS is
    /// used, and shows those of each call as [`tonic::Request::peer_certs`]; grants [`crate::STREAM_WINDOW_BYTES`], [`crate::CONNECTION_WINDOW_BYTES`] and
    /// [`crate::CALLS_PER_CONNECTION_MAX`]; bounds connections; and asks silent ones by HTTP/2 keep-alive, because a peer
    /// whose machine is gone ends no call. The service refuses everything once [`Peers`] has ended.
    pub fn service(&self) -> Routes {
        routes(self.shared())
    }

    /// Ends all links, streams and calls, and waits until nothing of them is running. [`Local`] is told nothing any more.
    pub async fn close(&self) {
        self.shared().end();
        self.shared().ended().await;
    }
}
