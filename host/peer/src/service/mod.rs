//! The service Peer: what peers ask of this node.

#![allow(clippy::result_large_err, reason = "what goes wrong goes out on the wire, and is rare")]

mod answers;
mod guest;
mod snapshot;

use std::sync::Arc;

use mortise_core::ids::{GroupId, LogIndex};
use mortise_core::replica::StreamId;
use mortise_proto::v1;
use mortise_proto::v1::peer_server::{Peer, PeerServer};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use self::answers::Answers;
pub(crate) use self::guest::Guest;
use crate::caller::named_stream;
use crate::counters::Count;
use crate::link::unix_ms;
use crate::local::{Local, Refusal};
use crate::shared::{Member, Shared};
use crate::streams::{Key, Opened, Streams, count_failure, follow};
use crate::wire::{memory_to_wire, message_from_wire, status_to_wire};

/// The routes of the service Peer.
pub(crate) fn routes(shared: &Arc<Shared>) -> Routes {
    let service = PeerServer::new(PeerService { shared: Arc::clone(shared) });
    Routes::new(service.max_decoding_message_size(shared.options.message_bytes_max))
}

/// What a peer is told of a refusal.
pub(crate) fn refused(refusal: &Refusal) -> Status {
    let words = refusal.to_string();
    match refusal {
        Refusal::NoSuchGroup(_) | Refusal::NoSuchSnapshot(_) => Status::not_found(words),
        Refusal::Unavailable(_) => Status::unavailable(words),
    }
}

struct PeerService {
    shared: Arc<Shared>,
}

impl PeerService {
    fn local(&self) -> Result<Arc<dyn Local>, Status> {
        self.shared.local().ok_or_else(|| Status::unavailable("this node stops"))
    }

    /// A group that hangs does not answer, and must not gather questions.
    async fn answer<T>(&self, answer: impl Future<Output = T>) -> Result<T, Status> {
        let late = |_| Status::deadline_exceeded("the group does not answer");
        timeout(self.shared.options.answer_timeout, answer).await.map_err(late)
    }

    /// Takes control messages until the peer ends the call. A group that has no room for so long loses its message.
    async fn control_of(
        &self,
        member: &Member,
        mut messages: Streaming<v1::PeerMessage>,
    ) -> Result<(), Status> {
        let (shared, peer) = (&self.shared, member.node);
        loop {
            let next = messages.message().await;
            let Some(message) = next.inspect_err(|status| count_failure(shared, peer, status))? else {
                return Ok(());
            };
            let message = message_from_wire(message).map_err(|error| {
                shared.counters.complain(peer, Count::Malformed, &error);
                Status::invalid_argument(error.to_string())
            })?;
            if message.fence.stream != StreamId(0) {
                shared.counters.complain(peer, Count::Malformed, &"a message of a stream beside all streams");
                return Err(Status::invalid_argument("the message belongs to a stream"));
            }
            let local = self.local()?;
            match timeout(shared.options.control_wait_max, local.deliver(peer, message)).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => shared.counters.complain(peer, Count::Refused, &refusal),
                Err(_) => shared.counters.add(Count::Lost),
            }
        }
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type ReplicateStream = Answers;
    type FetchSnapshotStream = ReceiverStream<Result<v1::SnapshotChunk, Status>>;

    async fn ping(&self, request: Request<v1::PingRequest>) -> Result<Response<v1::PingResponse>, Status> {
        guest::admit(&self.shared, &request)?;
        let node = self.shared.identity.node.0;
        Ok(Response::new(v1::PingResponse { node, received_unix_ms: unix_ms() }))
    }

    async fn control(
        &self,
        request: Request<Streaming<v1::PeerMessage>>,
    ) -> Result<Response<v1::ControlResponse>, Status> {
        let member = guest::admit_opening(&self.shared, &request)?;
        member.link.heard();
        let superseded = member.guest.newest_control();
        tokio::select! {
            () = superseded.0.stopped() => return Err(Status::aborted("a newer call takes the place of this one")),
            () = member.stop.stopped() => return Err(guest::no_member(member.node)),
            () = self.shared.stop.stopped() => return Err(Status::unavailable("this node stops")),
            ended = self.control_of(&member, request.into_inner()) => ended?,
        }
        Ok(Response::new(v1::ControlResponse {}))
    }

    async fn replicate(
        &self,
        request: Request<Streaming<v1::PeerMessage>>,
    ) -> Result<Response<Answers>, Status> {
        let shared = &self.shared;
        let member = guest::admit_opening(shared, &request)?;
        let Some((group, stream @ StreamId(1..))) = named_stream(request.metadata()) else {
            shared.counters.complain(member.node, Count::Unmarked, &"a replication stream without a name");
            return Err(Status::invalid_argument("the call does not name its stream"));
        };
        let place = guest::place(shared, &member)?;
        let key = Key { group, peer: member.node, stream, opened: Opened::There };
        let (ticket, receiver) = Streams::enter(shared, key);
        let (told, ended) = oneshot::channel();
        let answers = Answers::new(receiver, ended, Arc::clone(&ticket.end));
        let of_task = Arc::clone(shared);
        shared.spawn(async move {
            let ended = tokio::select! {
                () = ticket.end.stop.stopped() => Err(Status::aborted("the stream is closed")),
                () = member.stop.stopped() => Err(guest::no_member(member.node)),
                ended = follow(&of_task, key, request.into_inner()) => ended,
            };
            drop((ticket, place));
            // Nobody waits for it where the call is gone.
            let _ = told.send(ended);
        });
        Ok(Response::new(answers))
    }

    async fn fetch_snapshot(
        &self,
        request: Request<v1::FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        let member = guest::admit_opening(&self.shared, &request)?;
        let v1::FetchSnapshotRequest { group, index, offset } = request.into_inner();
        let chunks = snapshot::send(&self.shared, &member, GroupId(group), LogIndex(index), offset).await?;
        Ok(Response::new(chunks))
    }

    async fn memory(
        &self,
        request: Request<v1::MemoryRequest>,
    ) -> Result<Response<v1::MemoryResponse>, Status> {
        guest::admit_opening(&self.shared, &request)?;
        let local = self.local()?;
        let memory = self.answer(local.memory(GroupId(request.into_inner().group))).await?;
        memory.map(|memory| Response::new(memory_to_wire(memory))).map_err(|refusal| refused(&refusal))
    }

    async fn member_status(
        &self,
        request: Request<v1::MemberStatusRequest>,
    ) -> Result<Response<v1::MemberStatusResponse>, Status> {
        guest::admit_opening(&self.shared, &request)?;
        let local = self.local()?;
        let status = self.answer(local.status(GroupId(request.into_inner().group))).await?;
        status.map(|status| Response::new(status_to_wire(status))).map_err(|refusal| refused(&refusal))
    }
}
