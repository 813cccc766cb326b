//! A replica of a group, as a pure state machine: no clock, no file, no socket, no thread, no randomness.
//!
//! ```text
//!   clients     proposals, reads, tokens ─┐               ┌─▶ answers: places, permits, fates
//!   peers       messages, streams ────────┤               ├─▶ messages, streams to open
//!   log         durable, read back ───────┤    Replica    ├─▶ writes: save, append, truncate, install
//!   state       applied, snapshots ───────┼─▶   ::step  ──┼─▶ apply, take or fetch a snapshot
//!   coordinator record, swaps, session ───┤               ├─▶ reads, swaps, candidacy
//!   operator    commands ─────────────────┤               ├─▶ answers
//!   time        ticks ────────────────────┘               └─▶ notices
//! ```
//!
//! [`Replica::step`] takes one [`Event`] and gives the [`Effect`]s to carry out, whose ordering duties stand there. The
//! same steps give the same effects on every machine, which is how this code is tested: by stories, by a model
//! checker and by a simulator. `PROTOCOL.md` beside this crate has the rules, and where each of them stands.
//!
//! In short: a coordinator keeps one record a group, changed by compare-and-swap, which *is* the leadership. The
//! leader sends its log to all members; an entry is committed once every member of the in-sync set has it on
//! disk. Who falls behind leaves the set through the record; who leads next comes out of it.

mod contradiction;
mod coordination;
mod effect;
mod epochs;
mod event;
mod follower;
mod leader;
mod log;
mod message;
mod mutants;
mod operator;
mod options;
mod reads;
mod shared;
mod snapshot;
mod stored;
mod view;

pub use effect::{
    CoordinatorRequest, Effect, Fate, LogAtInstall, Notice, Rare, ReadPermit, Refusal, Write, WriteId,
};
pub use epochs::EpochTable;
pub use event::{
    Ack, Event, Freshness, Memory, MonoTime, OperatorCommand, Proposal, Reach, Read, RequestId, Seen,
    SessionState, SwapOutcome,
};
pub use message::{Body, Fence, LogEntry, Message, Position, StreamId};
pub use mutants::Mutant;
pub use options::Options;
pub use snapshot::SnapshotMeta;
pub use stored::{HardState, Promise, Stored};
pub use view::{Progress, RoleKind, View};

use self::effect::WriteId as Save;
use self::follower::Follower;
use self::leader::Leader;
use self::shared::Shared;
use crate::group::{Incarnation, NodeId};

/// A replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    shared: Shared,
    role: Role,
}

/// What the replica is. Each role has its own state, and takes none of it along.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    /// It follows, or waits to be elected.
    Follower(Follower),
    /// Its election is confirmed, and its promise to itself is on its way to the disk.
    Elected(Follower, Save),
    /// It leads.
    Leader(Box<Leader>),
    /// It has stopped for good.
    Halted,
}

/// What decides whom a replica listens to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Known {
    promised: Promise,
    incarnation: Incarnation,
    /// The record's coordinator and revision.
    record: Option<(u64, u64)>,
}

impl Replica {
    /// A replica that was just started. It does nothing before its first step; a [`Event::Tick`] will do.
    pub fn new(options: Options, stored: Stored, now: MonoTime) -> Self {
        Self { shared: Shared::new(options, stored, now), role: Role::Follower(Follower::new(now)) }
    }

    /// Something happened at `now`: what is to be done? Takes any event in any order, and never panics.
    pub fn step(&mut self, now: MonoTime, event: Event) -> Vec<Effect> {
        if matches!(self.role, Role::Halted) {
            return event.refusal().into_iter().collect();
        }
        self.shared.now = self.shared.now.max(now);
        let before = self.known();
        self.handle(event);
        let after = self.known();
        if before.promised != after.promised
            && let Role::Follower(follower) | Role::Elected(follower, _) = &mut self.role
        {
            follower.on_new_promise(self.shared.now);
        }
        self.change_role();
        if before != after
            && let Role::Follower(follower) = &mut self.role
            && let Some((from, message)) = self.shared.take_early()
        {
            follower.on_message(&mut self.shared, from, message);
        }
        if matches!(self.role, Role::Halted) {
            return std::mem::take(&mut self.shared.effects);
        }
        if let Role::Leader(leader) = &mut self.role {
            if before.record != after.record {
                leader.on_record(&mut self.shared);
            }
            leader.compare(&mut self.shared);
            leader.advance(&mut self.shared);
            leader.serve_reads(&mut self.shared);
        } else {
            self.shared.wake_reads(0);
        }
        self.shared.apply();
        self.shared.ask_coordinator();
        self.change_role();
        std::mem::take(&mut self.shared.effects)
    }

    fn known(&self) -> Known {
        let hard = &self.shared.hard;
        Known {
            promised: hard.promised,
            incarnation: hard.incarnation,
            record: hard.seen.as_ref().map(|seen| (seen.coordinator, seen.mod_revision)),
        }
    }

    fn handle(&mut self, event: Event) {
        let shared = &mut self.shared;
        match event {
            Event::Tick => match &mut self.role {
                Role::Follower(follower) => follower.on_tick(shared),
                Role::Leader(leader) => leader.on_tick(shared),
                Role::Elected(..) | Role::Halted => {}
            },
            Event::Propose(proposal) => match &mut self.role {
                Role::Leader(leader) => leader.on_propose(shared, proposal),
                _ => {
                    let result = Err(self.not_leader());
                    self.shared.effects.push(Effect::Proposed { id: proposal.id, result });
                }
            },
            Event::Read(read) => match &mut self.role {
                Role::Leader(leader) => leader.on_read(shared, read),
                Role::Follower(follower) => follower.on_read(shared, read),
                Role::Elected(..) => shared.refuse_read(read.id, Refusal::NotReady),
                Role::Halted => {}
            },
            Event::AskFate { id, token, deadline } => match &mut self.role {
                Role::Leader(leader) => leader.ask_fate(shared, id, token, deadline),
                _ => {
                    let (refusal, shared) = (self.not_leader(), &mut self.shared);
                    let gone = shared.breaks(Mutant::LostOnTruncation) && !shared.log.holds(token);
                    let result = if gone { Ok(Fate::Lost) } else { Err(refusal) };
                    shared.effects.push(Effect::Fate { id, result });
                }
            },
            Event::Operator { id, command } => self.on_operator(id, command),
            Event::StreamOpened { peer, stream } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_stream_opened(shared, peer, stream);
                }
            }
            Event::StreamClosed { peer, stream } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_stream_closed(shared, peer, stream);
                }
            }
            Event::Message { from, message } => self.on_message(from, message),
            Event::Durable(write) => self.on_durable(write),
            Event::LogRead { peer, stream, entries } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_log_read(shared, peer, stream, entries);
                }
            }
            Event::LogDropped { first } => shared.log.dropped_before(first),
            Event::Applied { index, digest } => shared.on_applied(index, digest),
            Event::SnapshotTaken(meta) => {
                shared.snapshot = Some(meta);
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_snapshot_taken(shared);
                }
            }
            Event::SnapshotFetched(meta) => match (shared.take_fetched(&meta), &mut self.role) {
                (Some(fetch), Role::Follower(follower)) => {
                    if shared.install_if_wanted(fetch) {
                        follower.forget_match();
                    }
                }
                // It was let lead with what it has: that is the group's now.
                (Some(_), Role::Elected(..) | Role::Leader(_) | Role::Halted) => {
                    shared.happened(Rare::SnapshotDropped);
                }
                (None, _) => shared.dropped("a snapshot nobody asked for"),
            },
            Event::SnapshotFailed => shared.fetch = None,
            Event::RecordRead { request, seen } => shared.on_record_read(request, seen),
            Event::RecordChanged(seen) => shared.on_record_changed(seen),
            Event::Swapped { nonce, outcome } => shared.on_swapped(nonce, outcome),
            Event::Candidates(nodes) => shared.coordination.candidates = nodes,
            Event::Session(session) => shared.on_session(session),
            Event::Fault(why) => shared.halt(why),
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message) {
        let shared = &mut self.shared;
        let fence = &message.fence;
        if fence.cluster != shared.options.cluster || fence.group != shared.options.group {
            return shared.dropped("a message of another cluster or group");
        }
        match &mut self.role {
            Role::Follower(follower) | Role::Elected(follower, _) => {
                follower.on_message(shared, from, message)
            }
            Role::Leader(leader) => leader.on_message(shared, from, message),
            Role::Halted => {}
        }
    }

    fn on_durable(&mut self, write: WriteId) {
        let was_installing = self.shared.is_installing();
        let durable = self.shared.log.durable();
        self.shared.on_durable(write);
        if let Role::Follower(follower) = &mut self.role {
            if was_installing && !self.shared.is_installing() {
                follower.tell_last(&mut self.shared);
            } else if self.shared.log.durable() > durable {
                follower.acknowledge(&mut self.shared);
            }
        }
    }

    /// Why a replica that does not lead refuses.
    fn not_leader(&self) -> Refusal {
        match &self.role {
            Role::Elected(..) => Refusal::NotReady,
            _ => Refusal::NotLeader { leader: self.shared.hard.promised.leader },
        }
    }

    /// Takes the role that promise and state demand.
    fn change_role(&mut self) {
        let shared = &mut self.shared;
        let promised = shared.hard.promised;
        let mine = promised.is_to(shared.options.node, shared.options.boot);
        let fit = shared.hard.quarantined.is_none();
        self.role = match std::mem::replace(&mut self.role, Role::Halted) {
            role if shared.halted.is_some() => {
                if let Role::Leader(leader) = role {
                    leader.step_down(shared);
                }
                shared.overtake_swap(
                    "this replica has stopped, and does not learn what becomes of the change: see its log",
                );
                shared.refuse_all_reads(Refusal::OutOfService);
                let why = shared.halted.clone().unwrap_or_default();
                shared.notice(Notice::Halted(why));
                Role::Halted
            }
            Role::Follower(follower) if mine && fit && shared.is_established() => {
                Role::Elected(follower, shared.saved)
            }
            Role::Elected(follower, save) if mine && fit => {
                if shared.is_durable(save) {
                    shared.refuse_unconfirmed(Refusal::NotReady);
                    Role::Leader(Box::new(Leader::new(shared)))
                } else {
                    Role::Elected(follower, save)
                }
            }
            Role::Elected(follower, _) => Role::Follower(follower),
            Role::Leader(leader) if !(mine && fit && promised.epoch == leader.epoch()) => {
                let goes_on = mine && fit;
                leader.step_down(shared);
                let follower = Follower::new(shared.now);
                if goes_on { Role::Elected(follower, shared.saved) } else { Role::Follower(follower) }
            }
            role => role,
        };
    }
}
