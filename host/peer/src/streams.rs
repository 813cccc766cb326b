//! Replication streams: which are open, and what is put on them.
//!
//! A stream is opened by a group's leader and numbered by the leader's process, so that after a change of leader two
//! streams between the same two nodes may have the same number. They differ in who opened them, and a message's kind says
//! on which it belongs: what leaders say travels in requests, what followers say in responses.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mortise_core::group::NodeId;
use mortise_core::ids::GroupId;
use mortise_core::replica::{Body, Message, StreamId};
use mortise_proto::v1;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::{Request, Status, Streaming};

use crate::caller::name_stream;
use crate::counters::Count;
use crate::error::PeerError;
use crate::link::connection;
use crate::queue::{Full, QueueReceiver, QueueSender, queue};
use crate::shared::{Member, Shared};
use crate::stop::{Stop, locked};
use crate::wire::{message_from_wire, message_to_wire};

/// Names a stream on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) group: GroupId,
    pub(crate) peer: NodeId,
    pub(crate) stream: StreamId,
    pub(crate) opened: Opened,
}

/// Who opened a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Opened {
    Here,
    There,
}

impl Opened {
    /// Who opened the stream that this node says `body` on.
    fn by_body(body: &Body) -> Self {
        if body.is_of_leader() { Self::Here } else { Self::There }
    }
}

/// The streams that are open here.
pub(crate) struct Streams {
    open: Mutex<HashMap<Key, Entry>>,
    newest: AtomicU64,
}

struct Entry {
    /// Tells a stream from one that takes its place under the same name.
    number: u64,
    queue: QueueSender,
    end: Arc<End>,
}

/// How a stream ends from here.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) stop: Stop,
    /// Who asked for it need not be told.
    quiet: AtomicBool,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self { open: Mutex::default(), newest: AtomicU64::new(0) }
    }

    /// Makes a stream known, until the ticket is dropped. The one that had its name ends; and of those that were opened there, each
    /// that the same leader had for the same group: it has given them up, and perhaps cannot say so, because nobody reads them.
    pub(crate) fn enter(shared: &Arc<Shared>, key: Key) -> (Ticket, QueueReceiver) {
        let (sender, receiver) = queue(&shared.options);
        let end = Arc::new(End { stop: Stop::new(), quiet: AtomicBool::new(false) });
        let number = shared.streams.newest.fetch_add(1, Ordering::Relaxed);
        let entry = Entry { number, queue: sender, end: Arc::clone(&end) };
        let mut open = locked(&shared.streams.open);
        open.retain(|other, entry| {
            let is_one = (other.group, other.peer, other.opened) == (key.group, key.peer, key.opened);
            let stays = !is_one || (key.opened == Opened::Here && other.stream != key.stream);
            if !stays {
                entry.end.stop.stop();
            }
            stays
        });
        open.insert(key, entry);
        drop(open);
        (Ticket { shared: Arc::clone(shared), key, number, end }, receiver)
    }

    /// Puts a message on its stream. A stream whose queue is full ends: what comes after a gap could not be used.
    pub(crate) fn put(shared: &Shared, to: NodeId, message: Message) {
        let opened = Opened::by_body(&message.body);
        let (group, stream) = (message.fence.group, message.fence.stream);
        let key = Key { group, peer: to, stream, opened };
        let mut open = locked(&shared.streams.open);
        let Some(entry) = open.get(&key) else {
            // It ended a moment ago, which is told on its own way.
            return shared.counters.add(Count::Lost);
        };
        if let Err(Full) = entry.queue.push(message) {
            entry.end.stop.stop();
            open.remove(&key);
            drop(open);
            shared.counters.complain(to, Count::Overflow, &"a replication stream's queue is full");
        }
    }

    /// Ends a stream that was opened here, without telling of it.
    pub(crate) fn close(&self, key: Key) {
        if let Some(entry) = locked(&self.open).remove(&key) {
            entry.end.quiet.store(true, Ordering::Relaxed);
            entry.end.stop.stop();
        }
    }
}

/// A stream that is known.
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    pub(crate) key: Key,
    number: u64,
    pub(crate) end: Arc<End>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = locked(&self.shared.streams.open);
        if open.get(&self.key).is_some_and(|entry| entry.number == self.number) {
            open.remove(&self.key);
        }
    }
}

/// Opens a stream, keeps it, and tells how it ends.
pub(crate) fn open(shared: &Arc<Shared>, group: GroupId, peer: NodeId, stream: StreamId) {
    let key = Key { group, peer, stream, opened: Opened::Here };
    let (ticket, receiver) = Streams::enter(shared, key);
    let contents = receiver.contents();
    let of_task = Arc::clone(shared);
    shared.spawn(async move {
        let ended = match of_task.member(peer) {
            None => Err(PeerError::Unknown(peer)),
            Some(member) => tokio::select! {
                () = ticket.end.stop.stopped() => Err(PeerError::Closed),
                () = member.stop.stopped() => Err(PeerError::Unknown(peer)),
                ended = lead(&of_task, &member, key, receiver) => ended,
            },
        };
        let quiet = ticket.end.quiet.load(Ordering::Relaxed);
        drop(ticket);
        drop(contents);
        if !quiet {
            if let Err(error) = ended {
                tracing::debug!(peer = peer.0, group = group.0, stream = stream.0, %error, "stream closed");
            }
            of_task.stream_closed(group, peer, stream);
        }
    });
}

/// The leader's side of a stream, until it ends.
async fn lead(
    shared: &Arc<Shared>,
    member: &Arc<Member>,
    key: Key,
    receiver: QueueReceiver,
) -> Result<(), PeerError> {
    let connection = connection(shared, member).await?;
    let mut request = Request::new(receiver.map(message_to_wire));
    name_stream(request.metadata_mut(), key.group, key.stream);
    let mut client = connection.client;
    let talk = async {
        let begun = timeout(shared.options.connect_timeout, client.replicate(request)).await;
        let mut answers = begun.map_err(|_| PeerError::Timeout)??.into_inner();
        let local = shared.local().ok_or(PeerError::Closed)?;
        local.stream_opened(key.group, key.peer, key.stream);
        drop(local);
        while let Some(message) = answers.message().await? {
            deliver(shared, key, message).await?;
        }
        Ok(())
    };
    tokio::select! {
        () = connection.stop.stopped() => Err(PeerError::Broken),
        ended = talk => ended,
    }
}

/// The follower's side of a stream: takes what the leader says, until it ends.
pub(crate) async fn follow(
    shared: &Shared,
    key: Key,
    mut messages: Streaming<v1::PeerMessage>,
) -> Result<(), Status> {
    loop {
        let Ok(next) = timeout(shared.options.stream_idle_max, messages.message()).await else {
            shared.counters.complain(key.peer, Count::Idle, &"nothing whole came on a replication stream");
            return Err(Status::deadline_exceeded("nothing whole came on this stream for too long"));
        };
        match next.inspect_err(|status| count_failure(shared, key.peer, status))? {
            None => return Ok(()),
            Some(message) => deliver(shared, key, message).await?,
        }
    }
}

/// Counts what a peer sends too large or torn; an end of its connection is neither.
pub(crate) fn count_failure(shared: &Shared, peer: NodeId, status: &Status) {
    match status.code() {
        tonic::Code::OutOfRange => shared.counters.complain(peer, Count::TooLarge, &status.message()),
        tonic::Code::Internal if std::error::Error::source(status).is_none() => {
            shared.counters.complain(peer, Count::Malformed, &status.message());
        }
        _ => {}
    }
}

/// Hands a message of a stream to its group, and waits for room there.
async fn deliver(shared: &Shared, key: Key, message: v1::PeerMessage) -> Result<(), Status> {
    let complain = |count, why: &dyn std::fmt::Display| shared.counters.complain(key.peer, count, why);
    let message = message_from_wire(message).map_err(|error| {
        complain(Count::Malformed, &error);
        Status::invalid_argument(error.to_string())
    })?;
    if (message.fence.group, message.fence.stream) != (key.group, key.stream) {
        complain(Count::Malformed, &"a message of another stream");
        return Err(Status::invalid_argument("the message belongs to another stream"));
    }
    let local = shared.local().ok_or_else(|| Status::unavailable("this node stops"))?;
    local.deliver(key.peer, message).await.map_err(|refusal| {
        complain(Count::Refused, &refusal);
        crate::service::refused(&refusal)
    })
}
