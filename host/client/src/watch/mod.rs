//! Watching a tenant: its commands as they are applied, each with its outcome and what it changed.
//!
//! ```text
//!   leader ──── responses ───▶ Watch ──▶ told, next
//!     ▲                          │ broken, silent, deposed
//!     └── from the place on ─────┘ the next node, by the trail
//! ```
//! A watch knows its place: which sequence comes next, and where the one before it is in the log. So it goes on by
//! itself at another node, without a gap and without a repeat; what cannot be told any more is an error. Nothing is
//! fetched ahead but what HTTP/2 and one response hold: whoever is slow holds up only themselves.

mod convert;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, stream};
pub use mortise_core::layer::Effect;
pub use mortise_core::state::KeyRange;
use mortise_proto::v1;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Streaming;

use crate::client::{Tenant, data};
use crate::connection::silent;
use crate::error::{ClientError, ErrorKind};
use crate::position::Position;
use crate::routes::Subject;
use crate::trail::Trail;

/// A node shows that it is there this many times within `silence_timeout`, where there is nothing to tell.
const SIGNS_OF_LIFE: u32 = 3;
/// What a node takes for the time between them.
const PROGRESS_MIN: Duration = Duration::from_millis(100);
const PROGRESS_MAX: Duration = Duration::from_secs(60);

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Where to begin. Default: now.
    pub from: WatchFrom,
    /// Only commands that changed keys of the plugin's state with this prefix, and of their effects only those. Default:
    /// empty, all commands, also those that changed nothing.
    pub key_prefix: Vec<u8>,
    /// Any member of the group may tell; the endpoints take turns. It tells the same in the same order, maybe later, and
    /// does not notice when it is cut off from the others. Default: no, the leader.
    pub any_member: bool,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchFrom {
    /// With the first command that is applied from now on: all whose acknowledgement comes after [`Tenant::watch`] has
    /// returned are told.
    #[default]
    Now,
    /// With the oldest command that is kept.
    Oldest,
    /// With this one, from 1. A command's sequence is the tenant's own count of commands and expirations, without holes,
    /// the same on every member; kv calls it a version.
    Sequence(u64),
    /// Where another watch was: see [`Watch::place`].
    Place(Place),
}

/// How far a watch is, to go on there: also in another process, another day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What comes next.
    pub sequence: u64,
    /// The tenant's number: another tenant of the same name is another one. 0: not known.
    pub tenant: u64,
    /// Where the command before is in the log: to notice where the history was given up. `None`: not known.
    pub after: Option<Position>,
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Told {
    /// A command or an expiration.
    Event(WatchEvent),
    /// Everything that had been acknowledged a moment ago is told. Comes at first and now and then, where there is
    /// nothing else to tell. Of a member that need not lead: everything that it had applied.
    CaughtUp,
}

/// A command, or an expiration, that was applied.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// The tenant's count of commands and expirations at this one.
    pub sequence: u64,
    /// The log entry that carried it.
    pub position: Position,
    /// Log time in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Who asked; `None` where the node runs without tokens, and for expirations.
    pub principal: Option<String>,
    /// The plugin's own bytes; `None`: an expiration.
    pub command: Option<Bytes>,
    /// The plugin's reply, or how it refused or failed.
    pub outcome: Result<Bytes, ClientError>,
    /// What it changed, net: right when done in this order.
    pub effects: Vec<Effect>,
}

/// A watch of a tenant. It mends itself: where a connection breaks, a node says nothing for `silence_timeout`, or
/// another one leads, it goes on where it was, for as long as it takes. Dropped, it ends.
pub struct Watch {
    tenant: Tenant,
    key_prefix: Bytes,
    any_member: bool,
    trail: Trail,
    stream: State,
    /// Where to begin, as long as no node has said where that is.
    from: WatchFrom,
    /// From then on: how far it is.
    place: Option<Place>,
    /// Events of the last response that are not told yet.
    events: VecDeque<WatchEvent>,
    /// How far the watch is when they are.
    then: Option<(Place, bool)>,
    /// When the node is given up, unless it says something.
    silent_at: Option<Instant>,
    trouble: Option<ClientError>,
}

enum State {
    /// Nothing is open; another attempt is made then.
    Closed(Instant),
    Opening(BoxFuture<'static, Result<Streaming<v1::WatchResponse>, ClientError>>),
    Open(Box<Streaming<v1::WatchResponse>>),
}

impl Watch {
    pub(crate) async fn open(tenant: &Tenant, options: WatchOptions) -> Result<Self, ClientError> {
        let WatchOptions { from, key_prefix, any_member } = options;
        if let WatchFrom::Sequence(0) = from {
            return Err(ClientError::new(ErrorKind::Invalid, "sequences begin at 1"));
        }
        let subject = if any_member { Subject::Anyone } else { tenant.leader() };
        let mut watch = Self {
            trail: tenant.connection.trail(subject),
            tenant: tenant.clone(),
            key_prefix: key_prefix.into(),
            any_member,
            stream: State::Closed(Instant::now()),
            from,
            place: None,
            events: VecDeque::new(),
            then: None,
            silent_at: None,
            trouble: None,
        };
        let deadline = Instant::now() + tenant.connection.timeout();
        match timeout_at(deadline, watch.receive()).await {
            Ok(begun) => begun.map(|()| watch),
            Err(_) => Err(tenant.connection.timed_out(watch.trouble.as_ref(), false)),
        }
    }

    /// What there is to tell next; waits for it. Where the wait is given up, nothing is lost.
    ///
    /// # Errors
    /// The watch is over:
    /// - [`ErrorKind::Compacted`]: what comes next is not kept any more; [`ClientError::oldest_sequence`] says what is.
    /// - [`ErrorKind::NotFound`]: there is no such tenant (any more).
    /// - [`ErrorKind::FailedPrecondition`]: it was created without `watch`; or the history was given up by an unclean
    ///   start.
    /// - [`ErrorKind::Invalid`]: the sequence to begin with has not been reached.
    /// - [`ErrorKind::Unauthenticated`], [`ErrorKind::PermissionDenied`]; [`ErrorKind::Protocol`].
    pub async fn told(&mut self) -> Result<Told, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Some(place) = &mut self.place {
                    place.sequence = event.sequence.saturating_add(1);
                    place.after = Some(event.position);
                }
                return Ok(Told::Event(event));
            }
            if let Some((place, caught_up)) = self.then.take() {
                self.place = Some(place);
                if caught_up {
                    return Ok(Told::CaughtUp);
                }
            }
            self.receive().await?;
        }
    }

    /// The next command or expiration; waits for it. Where the wait is given up, nothing is lost.
    ///
    /// # Errors
    /// As [`Watch::told`].
    pub async fn next(&mut self) -> Result<WatchEvent, ClientError> {
        loop {
            if let Told::Event(event) = self.told().await? {
                return Ok(event);
            }
        }
    }

    /// The commands and expirations as a stream. It ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<WatchEvent, ClientError>> + Send {
        stream::unfold(Some(self), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(event) => Some((Ok(event), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// How far it is: behind what was told last, or further, where what follows is known not to be wanted.
    pub fn place(&self) -> Place {
        let begin = |sequence| Place { sequence, tenant: 0, after: None };
        self.place.unwrap_or(match self.from {
            WatchFrom::Place(place) => place,
            WatchFrom::Sequence(sequence) => begin(sequence),
            WatchFrom::Now | WatchFrom::Oldest => begin(1),
        })
    }

    /// Why nothing comes at the moment, if that is known; the watch goes on trying.
    pub fn trouble(&self) -> Option<&ClientError> {
        self.trouble.as_ref()
    }

    /// Takes in the next response, from whichever node. All that is under way is kept in `self`, so that the wait can be
    /// given up and begun again.
    async fn receive(&mut self) -> Result<(), ClientError> {
        loop {
            let limit = self.tenant.connection.silence_timeout();
            let failed = match &mut self.stream {
                State::Closed(again_at) => {
                    sleep_until(*again_at).await;
                    self.silent_at = None;
                    self.stream = State::Opening(self.begin().boxed());
                    continue;
                }
                State::Opening(opening) => {
                    let silent_at = *self.silent_at.get_or_insert_with(|| Instant::now() + limit);
                    tokio::select! {
                        biased;
                        opened = opening => match opened {
                            Ok(stream) => {
                                self.stream = State::Open(Box::new(stream));
                                continue;
                            }
                            Err(error) => error,
                        },
                        () = sleep_until(silent_at) => silent(limit),
                    }
                }
                State::Open(stream) => {
                    let silent_at = *self.silent_at.get_or_insert_with(|| Instant::now() + limit);
                    let message = tokio::select! {
                        biased;
                        message = stream.message() => message.map_err(ClientError::from),
                        () = sleep_until(silent_at) => Err(silent(limit)),
                    };
                    match message {
                        Ok(Some(response)) => {
                            (self.silent_at, self.trouble) = (None, None);
                            self.trail.answered();
                            return self.take(response);
                        }
                        Ok(None) => {
                            let what = "the node ended the watch";
                            ClientError::new(ErrorKind::Unavailable, what).retryable()
                        }
                        Err(error) => error,
                    }
                }
            };
            if !passes(&failed) {
                self.stream = State::Closed(Instant::now());
                return Err(failed);
            }
            let wait = self.trail.failed(&failed);
            tracing::debug!(error = %failed, ?wait, "the watch broke; going on elsewhere");
            self.trouble = Some(failed);
            self.stream = State::Closed(Instant::now() + wait);
        }
    }

    /// Asks the node that the trail has come to.
    fn begin(
        &self,
    ) -> impl Future<Output = Result<Streaming<v1::WatchResponse>, ClientError>> + Send + 'static {
        use v1::watch_request::From;
        let place = match (self.place, self.from) {
            (Some(place), _) | (None, WatchFrom::Place(place)) => Some(place),
            _ => None,
        };
        let from = match (place, self.from) {
            (Some(place), _) => Some(From::Sequence(place.sequence)),
            (None, WatchFrom::Sequence(sequence)) => Some(From::Sequence(sequence)),
            (None, WatchFrom::Oldest) => Some(From::Oldest(true)),
            (None, WatchFrom::Now | WatchFrom::Place(_)) => None,
        };
        let connection = &self.tenant.connection;
        let progress = connection.silence_timeout() / SIGNS_OF_LIFE;
        let progress = progress.clamp(PROGRESS_MIN, PROGRESS_MAX);
        let request = connection.request(v1::WatchRequest {
            tenant: self.tenant.name().to_owned(),
            from,
            tenant_id: place.map_or(0, |place| place.tenant),
            after: place.and_then(|place| place.after).map(v1::Position::from),
            key_prefix: self.key_prefix.clone(),
            any_member: self.any_member,
            progress_ms: u64::try_from(progress.as_millis()).unwrap_or(u64::MAX),
        });
        let (mut client, connection) = (data(self.trail.channel()), connection.clone());
        async move { connection.accept(client.watch(request).await?) }
    }

    /// Takes a response apart, and makes sure that it goes on where the last one ended.
    fn take(&mut self, response: v1::WatchResponse) -> Result<(), ClientError> {
        let v1::WatchResponse { events, next_sequence, tenant_id, after, caught_up } = response;
        let after = after.map(Position::from);
        let begun = match self.place {
            Some(place) => place,
            None => {
                let known = match self.from {
                    WatchFrom::Sequence(sequence) => Some(sequence),
                    WatchFrom::Place(place) => Some(place.sequence),
                    WatchFrom::Now | WatchFrom::Oldest => events.first().map(|event| event.sequence),
                };
                Place { sequence: known.unwrap_or(next_sequence), tenant: tenant_id, after: None }
            }
        };
        let mut expected = begun.sequence;
        for event in &events {
            // Without a filter each sequence is told.
            let fits =
                event.sequence >= expected && (event.sequence == expected || !self.key_prefix.is_empty());
            if !fits {
                return Err(broken(format!("sequence {} comes where {expected} should", event.sequence)));
            }
            expected = event.sequence.saturating_add(1);
        }
        if next_sequence < expected {
            return Err(broken(format!("the watch goes back from {expected} to {next_sequence}")));
        }
        self.events = events.into_iter().map(convert::event).collect::<Result<_, _>>()?;
        let then = Place { sequence: next_sequence, tenant: tenant_id, after: after.or(begun.after) };
        self.place = Some(Place { tenant: tenant_id, ..begun });
        self.then = Some((then, caught_up));
        Ok(())
    }
}

/// Whether the watch may go on elsewhere or later.
fn passes(error: &ClientError) -> bool {
    let kinds = [
        ErrorKind::Unavailable,
        ErrorKind::ShuttingDown,
        ErrorKind::NotLeader,
        ErrorKind::Overloaded,
        ErrorKind::Internal,
    ];
    error.is_retryable() || kinds.contains(&error.kind())
}

fn broken(what: String) -> ClientError {
    ClientError::new(ErrorKind::Protocol, what)
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (tenant, place, trouble) = (self.tenant.name(), self.place(), self.trouble());
        f.debug_struct("Watch")
            .field("tenant", &tenant)
            .field("place", &place)
            .field("trouble", &trouble)
            .finish()
    }
}
