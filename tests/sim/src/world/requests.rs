//! Clients' requests at a node, as the real driver treats them: a recorded outcome is returned, a write that is in the
//! log already is attached to, and only else is an entry proposed.

use mortise_core::entry::{Body, Command, Entry, SessionChange};
use mortise_core::group::NodeId;
use mortise_core::ids::{Epoch, LogIndex, Sequence, SessionId};
use mortise_core::replica::{Ack, Event, Fate, MonoTime, Position, Proposal, Refusal, RequestId};
use mortise_core::time::LogTime;

use super::client::SESSION_TTL_MS;
use super::machine::{Applied, Done, TENANT};
use super::{Answer, Checked, Happening, Payload, Request, Violation, Wish, World};
use crate::coverage::Seldom;

impl World {
    /// A request reaches a node.
    pub(super) fn request_arrives(&mut self, id: NodeId, mut request: Request) -> Checked {
        let of_session = matches!(request.wish, Wish::Write { .. });
        if of_session && request.history != self.operator.unclean_starts {
            // Its client is gone, and its connection with it.
            return Ok(());
        }
        let Some(process) = self.node(id).alive() else {
            self.answer(&request, Answer::Elsewhere(None));
            return Ok(());
        };
        if process.paused_until > self.now {
            let at = process.paused_until;
            self.at(at, Happening::ClientArrives { node: id, request });
            return Ok(());
        }
        match request.wish {
            Wish::Write { session, sequence, .. } => {
                self.oracle.write_arrives(request.op);
                self.write_arrives(id, request, session, sequence)
            }
            Wish::Open => self.propose(id, request, Ack::Committed),
            Wish::Loose { .. } => {
                self.oracle.write_arrives(request.op);
                self.propose(id, request, Ack::Leader)
            }
            Wish::Read { key, freshness, at_least } => {
                request.floor = self.oracle.read_floor(key, freshness, at_least, self.now);
                let number = self.register(id, request);
                self.ask_to_read(id, number, freshness)
            }
            Wish::Fate { token, .. } => {
                let number = self.register(id, request);
                let Some(deadline) = self.deadline(id) else { return Ok(()) };
                self.step(id, Event::AskFate { id: number, token, deadline })
            }
        }
    }

    fn write_arrives(
        &mut self,
        id: NodeId,
        request: Request,
        session: SessionId,
        sequence: Sequence,
    ) -> Checked {
        let Some(process) = &mut self.node_mut(id).process else { return Ok(()) };
        let recorded = process.machine.recorded(session, sequence);
        if let Some(register) = recorded.filter(|_| process.view.serving) {
            let at = process.machine.at;
            self.coverage.count(Seldom::RetryAnswered);
            return self.written(id, &request, register, at);
        }
        let first = process.in_flight.get(&(session, sequence));
        if let Some(waiting) = first.and_then(|first| process.requests.get_mut(first)) {
            waiting.attempt = request.attempt;
            self.coverage.count(Seldom::RetryAttached);
            return Ok(());
        }
        self.propose(id, request, Ack::Committed)
    }

    fn register(&mut self, id: NodeId, request: Request) -> RequestId {
        self.requests += 1;
        let number = RequestId(self.requests);
        if let Some(process) = &mut self.node_mut(id).process {
            process.requests.insert(number, request);
        }
        number
    }

    pub(super) fn take_request(&mut self, id: NodeId, number: RequestId) -> Option<Request> {
        self.node_mut(id).process.as_mut()?.requests.remove(&number)
    }

    pub(super) fn answer(&mut self, request: &Request, answer: Answer) {
        if self.random.chance(self.profile.client_loss) {
            return;
        }
        let (client, op, attempt) = (request.client, request.op, request.attempt);
        let at = self.now + self.random.between(50, 2000);
        self.at(at, Happening::ClientHears { client, op, attempt, answer });
    }

    // --- Writes.

    fn propose(&mut self, id: NodeId, request: Request, ack: Ack) -> Checked {
        let filler = if self.random.chance(30) { 700 } else { self.random.below(60) as usize };
        let (op, attempt) = (request.op, request.attempt);
        let command = |session, sequence: Sequence, key, operation| {
            let payload = Payload { op, attempt, key, operation }.encode(filler);
            let answered_up_to = Sequence(sequence.0.saturating_sub(1));
            Command { tenant: TENANT, session, sequence, answered_up_to, principal: None, payload }
        };
        let body = match request.wish {
            Wish::Write { session, sequence, key, operation } => {
                Body::Commands(vec![command(session, sequence, key, operation)])
            }
            Wish::Loose { key, operation } => {
                Body::Commands(vec![command(SessionId::NONE, Sequence(0), key, operation)])
            }
            _ => Body::Session(SessionChange::Open { tenant: TENANT, ttl_ms: SESSION_TTL_MS }),
        };
        let payload = self.entry(id, body);
        let wish = request.wish;
        let number = self.register(id, request);
        if let (Wish::Write { session, sequence, .. }, Some(process)) = (wish, &mut self.node_mut(id).process)
        {
            process.in_flight.insert((session, sequence), number);
        }
        self.step(id, Event::Propose(Proposal { id: number, payload, ack }))
    }

    /// An entry for a node's log: its time is that of the last entry or of the node's clock, whichever is later.
    fn entry(&self, id: NodeId, body: Body) -> bytes::Bytes {
        let node = self.node(id);
        let time = node.disk.last_stamp().time.next(LogTime(node.wall(self.now)));
        Entry { epoch: Epoch(0), index: LogIndex(0), time, profile: 0, body }.encode()
    }

    /// The leader finds sessions that were unused for too long.
    pub(crate) fn expire_sessions(&mut self, id: NodeId) -> Checked {
        let Some(process) = self.node(id).alive().filter(|process| process.view.serving) else {
            return Ok(());
        };
        let now = process.machine.stamp.time.next(LogTime(self.node(id).wall(self.now)));
        let sessions = process.machine.sessions.idle(now, 16);
        if sessions.is_empty() {
            return Ok(());
        }
        self.coverage.count(Seldom::SessionsExpired);
        let payload = self.entry(id, Body::Session(SessionChange::Expire { sessions }));
        self.requests += 1;
        self.step(id, Event::Propose(Proposal { id: RequestId(self.requests), payload, ack: Ack::Committed }))
    }

    pub(super) fn proposed(
        &mut self,
        id: NodeId,
        number: RequestId,
        result: Result<Position, Refusal>,
    ) -> Checked {
        match result {
            Ok(at) => {
                self.check_serves(id, "takes a proposal")?;
                if let Some(process) = &mut self.node_mut(id).process
                    && process.requests.contains_key(&number)
                {
                    process.waiting.insert(at.index, (at, number));
                }
                Ok(())
            }
            Err(refusal) => {
                let Some(request) = self.take_request(id, number) else { return Ok(()) };
                self.oracle.refuse(request.op, request.attempt);
                self.forget_in_flight(id, &request);
                self.refuse(&request, refusal)
            }
        }
    }

    fn forget_in_flight(&mut self, id: NodeId, request: &Request) {
        if let (Wish::Write { session, sequence, .. }, Some(process)) =
            (request.wish, &mut self.node_mut(id).process)
        {
            process.in_flight.remove(&(session, sequence));
        }
    }

    pub(super) fn refuse(&mut self, request: &Request, refusal: Refusal) -> Checked {
        let answer = match refusal {
            Refusal::NotLeader { leader } => Answer::Elsewhere(leader),
            Refusal::OutOfService => Answer::Elsewhere(None),
            Refusal::NotReady | Refusal::Overloaded | Refusal::TimedOut => Answer::Later,
            Refusal::Lost => Answer::Gone,
            Refusal::Malformed => return Violation::of("refusal", "a proposal is called malformed".into()),
        };
        self.coverage.count_if(refusal == Refusal::Overloaded, Seldom::Overloaded);
        self.answer(request, answer);
        Ok(())
    }

    /// A loose write is durable on the leader.
    pub(super) fn acknowledge_token(&mut self, id: NodeId, number: RequestId, token: Position) -> Checked {
        if !self.node(id).disk.durable.holds(token) {
            return Violation::of(
                "I8",
                format!("node {id} acknowledges {token:?}, which is not durable there"),
            );
        }
        let process = self.node(id).process.as_ref();
        let request = process.and_then(|process| process.requests.get(&number)).cloned();
        if let Some(request) = request {
            self.answer(&request, Answer::Token(token));
        }
        Ok(())
    }

    pub(super) fn tell_fate(
        &mut self,
        id: NodeId,
        number: RequestId,
        result: Result<Fate, Refusal>,
    ) -> Checked {
        let Some(request) = self.take_request(id, number) else { return Ok(()) };
        match (result, request.wish) {
            (Ok(fate), Wish::Fate { write, token }) => {
                self.coverage.count_if(fate == Fate::Lost, Seldom::LooseWriteLost);
                // What became of it in a history that was given up says nothing of the one that counts.
                if !self.is_given_up(id) {
                    self.oracle.fate(write, fate, token, self.now)?;
                }
                self.answer(&request, Answer::Fate(fate));
                Ok(())
            }
            (Err(refusal), _) => self.refuse(&request, refusal),
            (Ok(_), _) => Ok(()),
        }
    }

    /// The entry at `at` is applied: whoever waits for it has an answer.
    pub(super) fn answer_applied(&mut self, id: NodeId, at: Position, applied: &Applied) -> Checked {
        let Some(process) = &mut self.node_mut(id).process else { return Ok(()) };
        let Some((place, number)) = process.waiting.remove(&at.index) else { return Ok(()) };
        let Some(request) = process.requests.remove(&number) else { return Ok(()) };
        self.forget_in_flight(id, &request);
        if place != at {
            self.answer(&request, Answer::Unknown);
            return Ok(());
        }
        match (applied, request.wish) {
            (Applied::Command(payload, _), _) if payload.op != request.op => Violation::of(
                "I13",
                format!("write {} was put at {at:?}, where write {} is", request.op, payload.op),
            ),
            // Its client has the token, and asks with it.
            (_, Wish::Loose { .. }) => Ok(()),
            (Applied::Command(_, Done::Executed(register) | Done::Before(register)), _) => {
                self.written(id, &request, *register, at)
            }
            (Applied::Command(_, Done::Expired), _) => {
                self.answer(&request, Answer::Expired);
                Ok(())
            }
            (Applied::Opened(session), _) => {
                self.answer(&request, Answer::Opened(*session));
                Ok(())
            }
            (Applied::Nothing, _) => Ok(()),
        }
    }

    fn written(&mut self, id: NodeId, request: &Request, register: super::Register, at: Position) -> Checked {
        if !self.is_given_up(id) {
            self.oracle.acknowledge(request.op, register, self.now)?;
        }
        self.answer(request, Answer::Written { register, at });
        Ok(())
    }

    /// The replica does not lead any more: what became of the writes that wait is not known here.
    pub(super) fn give_up_waiting(&mut self, id: NodeId) {
        let Some(process) = &mut self.node_mut(id).process else { return };
        process.in_flight.clear();
        for (_, number) in std::mem::take(&mut process.waiting).into_values() {
            if let Some(request) = self.take_request(id, number) {
                self.answer(&request, Answer::Unknown);
            }
        }
    }

    /// When the client of a request that arrives now stops waiting, by the node's clock.
    pub(super) fn deadline(&self, id: NodeId) -> Option<MonoTime> {
        let node = self.node(id);
        let process = node.process.as_ref()?;
        Some(process.clock(self.now, node.drift).after(self.unit))
    }
}
