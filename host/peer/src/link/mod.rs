//! One managed link to each peer: dialled on first use, shared by all calls, pinged, dialled again when it is broken: ever
//! more slowly, but at once when the peer calls, which shows that it is back.
//!
//! One task keeps a link, and only it dials: two first uses cannot make two connections. What it finds is published as a
//! whole [`View`]; who needs the link reads the newest one and holds no lock while it works with it.

mod backoff;
mod dial;
mod state;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mortise_core::group::NodeId;
use mortise_proto::v1;
use mortise_proto::v1::peer_client::PeerClient;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::codegen::InterceptedService;
use tonic::transport::Channel;

pub(crate) use self::backoff::Backoff;
pub use self::state::{LinkState, Transition};
use crate::caller::Speaker;
use crate::counters::Count;
use crate::error::PeerError;
use crate::queue::{QueueReceiver, QueueSender, queue};
use crate::shared::{Member, Shared};
use crate::status::LinkStatus;
use crate::stop::{Stop, StopOnDrop};
use crate::wire::message_to_wire;

/// Calls a peer: every call says who speaks to whom.
pub type Client = PeerClient<InterceptedService<Channel, Speaker>>;

/// A link's end here.
#[derive(Debug)]
pub(crate) struct Link {
    address: String,
    view: watch::Sender<View>,
    /// Given when the peer calls.
    heard: Notify,
}

/// How a link is, as its task last found it.
#[derive(Debug)]
struct View {
    state: Option<LinkState>,
    since: Instant,
    /// While connected.
    connection: Option<Connection>,
    round_trip: Option<Duration>,
    redials: u64,
    last_error: String,
}

/// A connection whose peer has said who it is.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// What is said outside streams.
    pub(crate) control: QueueSender,
    /// Given when the connection has ended.
    pub(crate) stop: Arc<Stop>,
}

impl Link {
    pub(crate) fn new(address: String) -> Self {
        let view = View {
            state: Transition::Init.from(None),
            since: Instant::now(),
            connection: None,
            round_trip: None,
            redials: 0,
            last_error: String::new(),
        };
        Self { address, view: watch::Sender::new(view), heard: Notify::new() }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether this is the first use, which makes the caller the one who has to start the link's task.
    fn start(&self) -> bool {
        self.change(Transition::Start, |_| {})
    }

    /// The link is wanted no more.
    pub(crate) fn dispose(&self) {
        self.change(Transition::Disposing, |_| {});
    }

    /// The peer calls: if the link waits before it dials again, it waits no longer. Whoever admits the call bounds how often
    /// that happens.
    pub(crate) fn heard(&self) {
        // Not kept for a later wait: a link that breaks again and again has to become slower.
        self.heard.notify_waiters();
    }

    /// The connection, where there is one now.
    pub(crate) fn connected(&self) -> Option<Connection> {
        self.view.borrow().connection.clone()
    }

    pub(crate) fn status(&self, peer: NodeId) -> Option<LinkStatus> {
        let view = self.view.borrow();
        Some(LinkStatus {
            peer,
            address: self.address.clone(),
            state: view.state?,
            since: view.since.elapsed(),
            round_trip: view.round_trip,
            redials: view.redials,
            last_error: view.last_error.clone(),
        })
    }

    /// Whether the state changed. What goes with the change is published in the same step; without a change it is not.
    fn change(&self, transition: Transition, with: impl FnOnce(&mut View)) -> bool {
        self.view.send_if_modified(|view| {
            let next = transition.from(view.state);
            let changed = next != view.state;
            if changed {
                view.state = next;
                view.since = Instant::now();
                view.connection = None;
                with(view);
            }
            changed
        })
    }
}

/// Begins to dial, where nobody has needed the link so far.
pub(crate) fn start(shared: &Arc<Shared>, member: &Arc<Member>) {
    if member.link.start() {
        let (of_task, member) = (Arc::clone(shared), Arc::clone(member));
        shared.spawn(async move {
            tokio::select! {
                () = member.stop.stopped() => {}
                () = keep(&of_task, &member) => {}
            }
        });
    }
}

/// The member's connection. Waits for the link's first dial, and never for another one.
pub(crate) async fn connection(shared: &Arc<Shared>, member: &Arc<Member>) -> Result<Connection, PeerError> {
    start(shared, member);
    let mut views = member.link.view.subscribe();
    let known = tokio::select! {
        () = shared.stop.stopped() => return Err(PeerError::Closed),
        known = views.wait_for(|view| view.state != Some(LinkState::Dialling)) => known,
    };
    known.ok().and_then(|view| view.connection.clone()).ok_or(PeerError::Broken)
}

/// Dials, pings, and dials again, until it is dropped.
async fn keep(shared: &Arc<Shared>, member: &Member) {
    let (options, link) = (&shared.options, &member.link);
    let mut backoff = Backoff::new(options.redial_min, options.redial_max);
    loop {
        // However this ends, the connection ends with it.
        let stop = StopOnDrop(Arc::new(Stop::new()));
        shared.counters.add(Count::Dials);
        let dialled = timeout(options.connect_timeout, dial_peer(shared, member, &stop.0)).await;
        match dialled.unwrap_or_else(|_| Err("not connected in time".to_string())) {
            Ok(dialled) => {
                let made = Instant::now();
                let Dialled { connection, controls, round_trip } = dialled;
                let client = connection.client.clone();
                link.change(Transition::DialSucceeded, |view| {
                    view.connection = Some(connection);
                    view.round_trip = Some(round_trip);
                });
                tracing::info!(peer = member.node.0, address = link.address(), "peer connected");
                let error = tend(shared, member, client, controls).await;
                // One that breaks at once is no success: it is dialled again ever more slowly.
                if made.elapsed() > options.ping_every {
                    backoff.reset();
                }
                tracing::info!(peer = member.node.0, %error, "peer connection broken");
                shared.counters.add(Count::Breaks);
                link.change(Transition::PingFailed, |view| view.last_error = error.to_string());
            }
            Err(error) => {
                tracing::debug!(peer = member.node.0, error, "dial a peer");
                link.view.send_modify(|view| view.last_error = error);
                link.change(Transition::DialFailed, |_| {});
            }
        }
        drop(stop);
        tokio::select! {
            () = backoff.wait() => {}
            () = link.heard.notified() => {}
        }
        link.view.send_modify(|view| view.redials += 1);
    }
}

struct Dialled {
    connection: Connection,
    controls: QueueReceiver,
    round_trip: Duration,
}

/// A connection, and who is behind it.
async fn dial_peer(shared: &Shared, member: &Member, stop: &Arc<Stop>) -> Result<Dialled, String> {
    let channel = dial::dial(shared, member.node, member.link.address(), stop)
        .await
        .map_err(|error| error.to_string())?;
    let speaker = Speaker::new(shared.identity, member.node);
    let client = PeerClient::with_interceptor(channel, speaker)
        .max_decoding_message_size(shared.options.message_bytes_max);
    let round_trip = ping(shared, member, &mut client.clone()).await.map_err(|error| error.to_string())?;
    let (control, controls) = queue(&shared.options);
    Ok(Dialled { connection: Connection { client, control, stop: Arc::clone(stop) }, controls, round_trip })
}

/// Sends control messages and pings until one of them fails. A killed peer is noticed by the control call, at once; a
/// peer that hangs, by a ping.
async fn tend(shared: &Shared, member: &Member, client: Client, controls: QueueReceiver) -> PeerError {
    let mut speaking = client.clone();
    tokio::select! {
        error = ping_on(shared, member, client) => error,
        ended = speaking.control(controls.map(message_to_wire)) => match ended {
            Ok(_) => PeerError::Broken,
            Err(status) => status.into(),
        },
    }
}

async fn ping_on(shared: &Shared, member: &Member, mut client: Client) -> PeerError {
    loop {
        tokio::time::sleep(shared.options.ping_every).await;
        match timeout(shared.options.ping_timeout, ping(shared, member, &mut client)).await {
            Ok(Ok(round_trip)) => {
                member.link.view.send_modify(|view| view.round_trip = Some(round_trip));
            }
            Ok(Err(error)) => return error,
            Err(_) => return PeerError::Timeout,
        }
    }
}

async fn ping(shared: &Shared, member: &Member, client: &mut Client) -> Result<Duration, PeerError> {
    let sent = Instant::now();
    let request = v1::PingRequest { node: shared.identity.node.0, sent_unix_ms: unix_ms() };
    let answer = client.ping(request).await?.into_inner();
    if answer.node != member.node.0 {
        return Err(PeerError::SomebodyElse(NodeId(answer.node)));
    }
    Ok(sent.elapsed())
}

/// For logs of the other side; 0 on a machine that believes to be before 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
