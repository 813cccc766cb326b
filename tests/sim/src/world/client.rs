//! Clients: each does one thing after the other, again and again until it has an answer, as the client library does.

use mortise_core::group::NodeId;
use mortise_core::ids::{Sequence, SessionId};
use mortise_core::replica::{Fate, Freshness, Position};

use super::machine::{Key, Operation, Register};
use super::{Happening, World};
use crate::oracle::Floor;

/// A session unused for this long ends, in milliseconds of log time: rarely reached but by a clock that jumps.
pub(crate) const SESSION_TTL_MS: u64 = 30_000;
/// Tokens of `ack = leader` writes that a client follows up at a time.
const TOKENS_MAX: usize = 6;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wish {
    /// A session for its writes.
    Open,
    /// A write of its session, acknowledged when it is committed.
    Write { session: SessionId, sequence: Sequence, key: Key, operation: Operation },
    /// A write without a session, acknowledged by the leader alone. Asked once.
    Loose { key: Key, operation: Operation },
    /// A read. `at_least`: the version that a token promises.
    Read { key: Key, freshness: Freshness, at_least: u64 },
    /// What became of a loose write.
    Fate { write: u64, token: Position },
}

/// A wish on its way to a node.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) client: usize,
    pub(crate) op: u64,
    pub(crate) attempt: u32,
    pub(crate) wish: Wish,
    /// What a read has to see, set when it reaches the node.
    pub(crate) floor: Floor,
    /// How many unclean starts there had been when it was sent.
    pub(crate) history: u64,
}

/// What a node says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Opened(SessionId),
    Written {
        register: Register,
        at: Position,
    },
    /// The session does not know the write any more.
    Expired,
    /// A loose write is durable on the leader.
    Token(Position),
    Fate(Fate),
    Read,
    /// Somebody else may be able to.
    Elsewhere(Option<NodeId>),
    /// Not now.
    Later,
    /// The position asked for is not part of the history.
    Gone,
    /// It may have taken effect.
    Unknown,
}

#[derive(Debug)]
struct Current {
    op: u64,
    attempt: u32,
    wish: Wish,
    until: u64,
}

/// A token whose fate is not known yet.
#[derive(Clone, Copy, Debug)]
struct Token {
    write: u64,
    at: Position,
}

#[derive(Debug)]
pub(crate) struct Client {
    session: Option<SessionId>,
    sequence: u64,
    target: NodeId,
    current: Option<Current>,
    tokens: Vec<Token>,
    /// The last committed write: key, version and place.
    last_write: Option<(Key, u64, Position)>,
}

impl Client {
    pub(crate) fn new(target: NodeId) -> Self {
        Self { session: None, sequence: 0, target, current: None, tokens: Vec::new(), last_write: None }
    }

    /// Whether it waits for nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.is_none() && self.tokens.is_empty()
    }
}

impl World {
    /// The client begins something new, unless something is under way.
    pub(crate) fn client_wakes(&mut self, client: usize) {
        if self.clients[client].current.is_some() {
            return;
        }
        let Some(wish) = self.choose_wish(client) else {
            // It is told to stop, and has nothing left to ask.
            return self.at(self.now + self.unit / 4, Happening::ClientWakes(client));
        };
        self.ops += 1;
        let op = self.ops;
        if let Wish::Write { key, .. } | Wish::Loose { key, .. } = wish {
            self.oracle.begin_write(op, key);
        }
        let until = self.now + 8 * self.unit;
        self.clients[client].current = Some(Current { op, attempt: 0, wish, until });
        self.client_sends(client);
    }

    fn choose_wish(&mut self, client: usize) -> Option<Wish> {
        let state = &self.clients[client];
        let (session, tokens) = (state.session, state.tokens.len());
        if tokens > 0 && (self.quiet || tokens >= TOKENS_MAX || self.random.chance(200)) {
            let token = self.random.pick(&self.clients[client].tokens)?;
            return Some(Wish::Fate { write: token.write, token: token.at });
        }
        if self.quiet {
            return None;
        }
        let key = self.random.below(self.profile.keys) as Key;
        let value = self.random.below(1000);
        let operation = if self.random.chance(500) { Operation::Set(value) } else { Operation::Add(value) };
        if self.random.chance(self.profile.loose) {
            return Some(Wish::Loose { key, operation });
        }
        if self.random.chance(450) {
            return Some(self.choose_read(client, key));
        }
        let Some(session) = session else { return Some(Wish::Open) };
        let state = &mut self.clients[client];
        state.sequence += 1;
        Some(Wish::Write { session, sequence: Sequence(state.sequence), key, operation })
    }

    fn choose_read(&mut self, client: usize, key: Key) -> Wish {
        let last_write = self.clients[client].last_write;
        let (key, freshness, at_least) = match (self.random.below(8), last_write) {
            (0..3, _) => (key, Freshness::Linearizable, 0),
            (3..5, _) => (key, Freshness::Lease, 0),
            (5, Some((key, version, at))) => (key, Freshness::AtLeast(at), version),
            _ => (key, Freshness::Bounded(self.random.between(0, 2 * self.unit)), 0),
        };
        if !matches!(freshness, Freshness::Linearizable | Freshness::Lease) {
            self.clients[client].target = self.any_node();
        }
        Wish::Read { key, freshness, at_least }
    }

    /// Sends what the client is at to its target, and waits.
    fn client_sends(&mut self, client: usize) {
        let state = &mut self.clients[client];
        let target = state.target;
        let Some(current) = &mut state.current else { return };
        current.attempt += 1;
        let (op, attempt, wish) = (current.op, current.attempt, current.wish);
        let history = self.operator.unclean_starts;
        let request = Request { client, op, attempt, wish, floor: Floor::default(), history };
        let patience = self.random.between(self.unit / 2, 2 * self.unit);
        self.at(self.now + patience, Happening::ClientGivesUp { client, op, attempt });
        if self.random.chance(self.profile.client_loss) {
            return;
        }
        let arrives = self.now + self.random.between(50, 2000);
        self.at(arrives, Happening::ClientArrives { node: target, request });
    }

    /// No answer in time: asks again elsewhere, or gives up.
    pub(crate) fn client_times_out(&mut self, client: usize, op: u64, attempt: u32) {
        let same = |current: &Current| current.op == op && current.attempt == attempt;
        if self.clients[client].current.as_ref().is_some_and(same) {
            self.clients[client].target = self.any_node();
            self.client_retries(client, Answer::Unknown);
        }
    }

    fn client_retries(&mut self, client: usize, after: Answer) {
        let wait = self.random.between(self.unit / 100, self.unit / 8);
        let now = self.now;
        let state = &mut self.clients[client];
        let Some(current) = &state.current else { return };
        // A loose write has no session to make a second attempt harmless.
        let once = matches!(current.wish, Wish::Loose { .. }) && after == Answer::Unknown;
        let expendable = matches!(current.wish, Wish::Read { .. } | Wish::Fate { .. });
        if once || current.until <= now || (expendable && after == Answer::Gone) {
            if matches!(current.wish, Wish::Write { .. }) {
                // Whether the write was executed stays unknown, so its session is of no use any more.
                state.session = None;
            }
            return self.client_is_done(client);
        }
        let (op, attempt) = (current.op, current.attempt);
        self.at(now + wait, Happening::ClientRetries { client, op, attempt });
    }

    pub(crate) fn client_sends_again(&mut self, client: usize, op: u64, attempt: u32) {
        let same = |current: &Current| current.op == op && current.attempt == attempt;
        if self.clients[client].current.as_ref().is_some_and(same) {
            self.client_sends(client);
        }
    }

    fn client_is_done(&mut self, client: usize) {
        self.clients[client].current = None;
        let think = self.random.between(0, self.profile.think);
        self.at(self.now + think, Happening::ClientWakes(client));
    }

    /// An operator has let a node go on with what it has. The index that names a session may be given out again, to
    /// another client: so clients are started anew, as operators are told, and none of them uses what it had.
    pub(crate) fn restart_clients(&mut self) {
        self.operator.unclean_starts += 1;
        for client in 0..self.clients.len() {
            self.clients[client].session = None;
            let current = self.clients[client].current.as_ref();
            if current.is_some_and(|current| matches!(current.wish, Wish::Write { .. } | Wish::Open)) {
                self.client_is_done(client);
            }
        }
    }

    /// An answer arrives.
    pub(crate) fn client_hears(&mut self, client: usize, op: u64, attempt: u32, answer: Answer) {
        let elsewhere = self.any_node();
        let state = &mut self.clients[client];
        let Some(current) = state.current.as_ref().filter(|current| current.op == op) else { return };
        let current_attempt = current.attempt == attempt;
        match (answer, current.wish) {
            (Answer::Opened(session), Wish::Open) => {
                state.session = Some(session);
                state.sequence = 0;
            }
            (Answer::Written { register, at }, Wish::Write { key, .. }) => {
                state.last_write = Some((key, register.version, at));
            }
            (Answer::Token(at), Wish::Loose { .. }) => state.tokens.push(Token { write: op, at }),
            (Answer::Fate(_), Wish::Fate { write, .. }) => {
                state.tokens.retain(|token| token.write != write);
            }
            (Answer::Expired, _) => state.session = None,
            (Answer::Read, _) => {}
            _ if !current_attempt => return,
            (Answer::Elsewhere(hint), _) => {
                state.target = hint.unwrap_or(elsewhere);
                return self.client_retries(client, answer);
            }
            _ => {
                return self.client_retries(client, answer);
            }
        }
        self.client_is_done(client);
    }
}
