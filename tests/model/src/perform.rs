//! What each action does to a world.

use bytes::Bytes;

use mortise_core::entry::{Body, Entry};
use mortise_core::group::{Incarnation, LeaseId, NodeId};
use mortise_core::ids::{Epoch, LogIndex, TenantId};
use mortise_core::replica::{
    Ack, Event, Freshness, MonoTime, OperatorCommand, Position, Proposal, Read, SessionState, StreamId,
    SwapOutcome,
};
use mortise_core::time::LogTime;

use crate::action::Action;
use crate::bounds::Budget;
use crate::disk::Disk;
use crate::history;
use crate::step::Step;
use crate::world::{Stream, World};

/// A client's write, which its number tells from all others.
fn payload(number: u64) -> Bytes {
    let body = Body::TenantDrop { tenant: TenantId(number) };
    Entry { epoch: Epoch(0), index: LogIndex(0), time: LogTime(0), profile: 0, body }.encode()
}

impl Step<'_> {
    /// Performs an action, and what follows of itself.
    pub fn perform(&mut self, action: Action) {
        match action {
            Action::Deliver { channel, place } => self.deliver(channel, place),
            Action::Sync(node) => _ = self.sync(node),
            Action::Learn(node) => self.learn(node),
            Action::Swap { place, .. } => {
                let keep_past = self.bounds.limits.of(Budget::Restore) > 0;
                if self.world.coordinator.apply(place, keep_past).is_some() {
                    self.spend(Budget::Swap);
                }
            }
            Action::Unknown(node) => self.lose_answer(node),
            Action::Elect(node) => self.elect(node),
            Action::Tend(node) => self.feed(node, Event::Tick),
            Action::Wait(node) => {
                let clock = &mut self.world.node_mut(node).clock;
                *clock = MonoTime(clock.0 + 1);
                self.spend(Budget::Wait);
            }
            Action::Reconnect { leader, peer } => self.reconnect(leader, peer),
            Action::Break { leader, peer } => {
                self.break_streams(|stream| stream == (leader, peer));
                self.spend(Budget::Break);
            }
            Action::Propose { node, ack } => {
                self.spend(if ack == Ack::Leader { Budget::ProposeAck } else { Budget::Propose });
                let id = self.world.history.request();
                self.feed(node, Event::Propose(Proposal { id, payload: payload(id.0), ack }));
            }
            Action::Ask { node, token } => self.ask(node, token),
            Action::Read(node) => self.read(node),
            Action::Crash(node) => {
                self.spend(Budget::Crash);
                let mut disk = self.world.node(node).disk.clone();
                disk.crash();
                self.restart(node, disk);
            }
            Action::Wipe(node) => {
                self.spend(Budget::Wipe);
                self.world.history.wiped += 1;
                let number = Incarnation(node.0 * 100 + self.world.node(node).boot.0);
                self.restart(node, Disk::made(number));
            }
            Action::Transfer { leader, target } => {
                self.spend(Budget::Transfer);
                self.command(leader, OperatorCommand::Transfer(target));
            }
            Action::SetMinIsr { leader, min_isr } => {
                self.spend(Budget::MinIsr);
                let known = self.world.coordinator.record.min_isr;
                self.world.history.raised |= min_isr > known;
                self.command(leader, OperatorCommand::SetMinIsr(min_isr));
            }
            Action::Relet(node) => {
                self.spend(Budget::Lease);
                let lease = &mut self.world.node_mut(node).lease;
                *lease = LeaseId(lease.0 + 1);
                let session = self.world.node(node).session();
                self.feed(node, Event::Session(SessionState::Offline));
                self.feed(node, session);
            }
            Action::Restore { place } => {
                self.spend(Budget::Restore);
                self.world.history.restored = true;
                self.world.coordinator.restore(place);
            }
        }
        self.settle();
    }

    fn spend(&mut self, kind: Budget) {
        self.world.spent.raise(kind, 1);
    }

    fn command(&mut self, node: NodeId, command: OperatorCommand) {
        let id = self.world.history.request();
        self.feed(node, Event::Operator { id, command });
    }

    fn lose_answer(&mut self, id: NodeId) {
        let boot = self.world.node(id).boot;
        let mut swaps = self.world.coordinator.swaps.iter_mut();
        let Some(swap) = swaps.find(|swap| (swap.node, swap.boot) == (id, boot)) else { return };
        swap.unknown = true;
        let nonce = swap.record.nonce;
        self.spend(Budget::Unknown);
        self.feed(id, Event::Swapped { nonce, outcome: SwapOutcome::Unknown });
    }

    fn elect(&mut self, id: NodeId) {
        let writes = self.world.node(id).disk.queue.len();
        self.feed(id, Event::Tick);
        // It saves what it asks for before it asks.
        if self.world.node(id).disk.queue.len() > writes {
            self.spend(Budget::Elect);
        }
    }

    fn ask(&mut self, node: NodeId, at: Position) {
        self.spend(Budget::Ask);
        let id = self.world.history.request();
        if let Some(token) = self.world.history.tokens.iter_mut().find(|token| token.at == at) {
            token.asked = Some((node, id));
        }
        self.feed(node, Event::AskFate { id, token: at, deadline: MonoTime::MAX });
    }

    fn read(&mut self, node: NodeId) {
        self.spend(Budget::Read);
        let id = self.world.history.request();
        let floor = self.world.history.committed.len() as u64;
        self.world.history.reads.push(history::Read { id, node, floor });
        let (freshness, deadline) = (Freshness::Linearizable, MonoTime::MAX);
        self.feed(node, Event::Read(Read { id, freshness, deadline }));
    }

    fn reconnect(&mut self, leader: NodeId, peer: NodeId) {
        let Some(place) =
            self.world.streams.iter().position(|stream| (stream.leader, stream.peer) == (leader, peer))
        else {
            return;
        };
        let stream = self.world.streams.remove(place).stream;
        self.feed(leader, Event::StreamClosed { peer, stream });
        self.feed(leader, Event::Tick);
    }

    /// Breaks the streams that `broken` names by leader and peer. What is on its way to the peer is lost; what it answered
    /// may still arrive.
    fn break_streams(&mut self, broken: impl Fn((NodeId, NodeId)) -> bool) {
        let World { streams, network, .. } = &mut self.world;
        for stream in streams.iter_mut().filter(|stream| broken((stream.leader, stream.peer))) {
            stream.broken = true;
            let Stream { leader, peer, stream, .. } = *stream;
            network.lose(|channel| (channel.from, channel.to, channel.stream) == (leader, peer, stream));
        }
    }

    fn restart(&mut self, id: NodeId, disk: Disk) {
        let next = self.world.node(id).restart(disk, self.bounds.mutant);
        *self.world.node_mut(id) = next;
        self.world.streams.retain(|stream| stream.leader != id);
        self.break_streams(|(_, peer)| peer == id);
        self.world.network.lose(|channel| channel.to == id && channel.stream != StreamId(0));
        let history = &mut self.world.history;
        history.reads.retain(|read| read.node != id);
        for token in &mut history.tokens {
            token.asked = token.asked.filter(|(node, _)| *node != id);
        }
        let session = self.world.node(id).session();
        self.feed(id, session);
        self.establish(id);
    }
}
