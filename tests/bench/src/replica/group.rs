//! Three replicas of one group in this process: messages arrive at once, writes are durable at once, nothing is applied
//! but counted. What is left is the work of the core.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use bytes::Bytes;
use mortise_core::digest::Digest;
use mortise_core::entry::{Body, Command, Entry};
use mortise_core::group::{BootId, GroupRecord, Incarnation, LeaseId, NodeId, Nonce};
use mortise_core::ids::{Epoch, GroupId, LogIndex, Sequence, SessionId, TenantId};
use mortise_core::replica::{
    Ack, CoordinatorRequest, Effect, Event, MonoTime, Options, Proposal, Replica, RequestId, Seen,
    SessionState, Stored, SwapOutcome, Write, WriteId,
};
use mortise_core::time::LogTime;

use crate::VALUE_BYTES;

/// Replicas of the group.
const REPLICAS: u64 = 3;
/// The benchmark's clock goes on so much with each round, in microseconds.
const ROUND_MICROS: u64 = 1000;
/// A group that has no leader after so many rounds never gets one.
const ELECTION_ROUNDS_MAX: usize = 1000;

struct Node {
    replica: Replica,
    /// The last write, where one is not reported as durable.
    written: Option<WriteId>,
    /// Entries to apply.
    applying: u64,
    applied: u64,
}

/// The group. The first node leads.
pub(crate) struct Group {
    nodes: Vec<Node>,
    due: VecDeque<(usize, Event)>,
    seen: Seen,
    now: MonoTime,
    proposed: u64,
    refused: u64,
    steps: u64,
}

/// An entry of `commands` commands of [`VALUE_BYTES`] each.
pub(crate) fn payload(commands: usize) -> Bytes {
    let command = Command {
        tenant: TenantId(1),
        session: SessionId(1),
        sequence: Sequence(1),
        answered_up_to: Sequence(0),
        principal: None,
        payload: vec![0x61; VALUE_BYTES].into(),
    };
    let body = Body::Commands(vec![command; commands]);
    Entry { epoch: Epoch(0), index: LogIndex(0), time: LogTime(1), profile: 1, body }.encode()
}

impl Group {
    /// A group whose first node was elected.
    pub(crate) fn start() -> Result<Self> {
        let voters: Vec<_> = (1..=REPLICAS).map(|node| (NodeId(node), Incarnation(node))).collect();
        let record = GroupRecord::create(1, &voters, 2, Nonce(1))?;
        let node = |(node, incarnation): &(NodeId, Incarnation)| Node {
            replica: Replica::new(
                Options::new(1, GroupId(1), *node, BootId(1), node.0),
                Stored::empty(*incarnation),
                MonoTime(1),
            ),
            written: None,
            applying: 0,
            applied: 0,
        };
        let mut group = Self {
            nodes: voters.iter().map(node).collect(),
            due: VecDeque::new(),
            seen: Seen { coordinator: 1, revision: 1, mod_revision: 1, record: Some(record) },
            now: MonoTime(1),
            proposed: 0,
            refused: 0,
            steps: 0,
        };
        group.step(0, Event::Session(SessionState::Live(LeaseId(1))));
        for _ in 0..ELECTION_ROUNDS_MAX {
            if group.nodes[0].replica.view().serving {
                return Ok(group);
            }
            group.now = group.now.after(ROUND_MICROS);
            (0..group.nodes.len()).for_each(|node| group.step(node, Event::Tick));
            group.round();
        }
        bail!("the group elects nobody")
    }

    /// Proposes `entries` entries, and goes on until they are committed everywhere.
    pub(crate) fn write(&mut self, entries: usize, payload: &Bytes) -> Result<()> {
        for _ in 0..entries {
            let id = RequestId(self.proposed);
            self.proposed += 1;
            let proposal = Proposal { id, payload: payload.clone(), ack: Ack::Committed };
            self.step(0, Event::Propose(proposal));
        }
        self.now = self.now.after(ROUND_MICROS);
        (0..self.nodes.len()).for_each(|node| self.step(node, Event::Tick));
        self.round();
        if self.refused > 0 { bail!("{} proposals were refused", self.refused) } else { Ok(()) }
    }

    /// Entries that the leader has applied, hence committed.
    pub(crate) fn committed(&self) -> u64 {
        self.nodes[0].applied
    }

    /// Steps of all replicas so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Everything happens that is due: messages, one fsync for all that was written, applying.
    fn round(&mut self) {
        loop {
            while let Some((node, event)) = self.due.pop_front() {
                self.step(node, event);
            }
            let mut is_idle = true;
            for node in 0..self.nodes.len() {
                if let Some(write) = self.nodes[node].written.take() {
                    is_idle = false;
                    self.step(node, Event::Durable(write));
                }
                while self.nodes[node].applied < self.nodes[node].applying {
                    is_idle = false;
                    self.nodes[node].applied += 1;
                    let index = LogIndex(self.nodes[node].applied);
                    self.step(node, Event::Applied { index, digest: Digest::default() });
                }
            }
            if is_idle && self.due.is_empty() {
                return;
            }
        }
    }

    fn step(&mut self, node: usize, event: Event) {
        self.steps += 1;
        let effects = self.nodes[node].replica.step(self.now, event);
        for effect in effects {
            self.carry_out(node, effect);
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Write(id, Write::Save(_) | Write::Append(_) | Write::Truncate { .. }) => {
                self.nodes[node].written = Some(id);
            }
            Effect::Send { to, message } => {
                let event = Event::Message { from: NodeId(node as u64 + 1), message };
                self.due.push_back((to.0 as usize - 1, event));
            }
            Effect::OpenStream { peer, stream } => {
                self.due.push_back((node, Event::StreamOpened { peer, stream }));
            }
            Effect::Apply { up_to } => self.nodes[node].applying = up_to.0,
            Effect::Proposed { result: Err(_), .. } => self.refused += 1,
            Effect::Coordinate(CoordinatorRequest::Read { request }) => {
                let seen = Some(self.seen.clone());
                self.due.push_back((node, Event::RecordRead { request, seen }));
            }
            Effect::Coordinate(CoordinatorRequest::Swap { record, .. }) => {
                let nonce = record.nonce;
                let revision = self.seen.revision + 1;
                self.seen = Seen { revision, mod_revision: revision, record: Some(record), ..self.seen };
                let seen = self.seen.clone();
                for other in (0..self.nodes.len()).filter(|other| *other != node) {
                    self.due.push_back((other, Event::RecordChanged(seen.clone())));
                }
                let outcome = SwapOutcome::Applied(seen);
                self.due.push_back((node, Event::Swapped { nonce, outcome }));
            }
            _ => {}
        }
    }
}
