//! What was taken from callers and is not settled yet: the bookkeeping of a writer, without its network.

use std::collections::VecDeque;

use bytes::Bytes;
use mortise_proto::v1::{self, StreamWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Acknowledge, BatchAnswer};
use crate::error::{ClientError, ErrorKind, TookEffect};
use crate::position::Position;

/// Bytes of commands in one message, beyond which the next one begins: large enough that its frame costs nothing,
/// small enough that the first write of it does not wait for the last. A larger command goes alone.
const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Writes in one message; a node allows 16,384 by default.
const MESSAGE_WRITES_MAX: usize = 4_096;

/// Writes by sequence, each with who waits for it.
///
/// Invariants: `slots[0]` has sequence `base`, the others follow in a row. All sequences below `base` are answered and
/// acknowledged. All up to `answered` are answered, the one after it is not; so `base - 1 <= answered`, and with
/// [`Acknowledge::WhenAnswered`] they are equal. No sequence at or after `cursor` was sent on the present stream.
#[derive(Debug)]
pub(super) struct Window {
    base: u64,
    slots: VecDeque<Slot>,
    answered: u64,
    acknowledge: Acknowledge,
    cursor: u64,
    /// Refused for overload, to be sent again on this stream.
    again: VecDeque<u64>,
    /// Counts the streams, from 1.
    stream: u32,
    batches: Batches,
    /// Not after any slot's deadline.
    deadline_min: Option<Instant>,
    bytes_max: usize,
    unanswered: usize,
    /// Room to give back: writes and bytes.
    freed: (usize, usize),
}

#[derive(Debug)]
struct Slot {
    /// Empty once answered, or acknowledged by the leader: then it is never sent again.
    command: Bytes,
    /// What it takes of the window's bytes.
    bytes: usize,
    waiter: Waiter,
    deadline: Option<Instant>,
    /// The stream it was first sent on; 0: none yet.
    sent_on: u32,
    /// The leader alone acknowledged it, on this stream.
    token: Option<(Position, u32)>,
}

/// Who waits for a write.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A caller.
    One(oneshot::Sender<Result<Bytes, ClientError>>),
    /// A caller who wants the leader's acknowledgement first.
    Early(oneshot::Sender<Position>, oneshot::Sender<Result<Bytes, ClientError>>),
    /// A batch, by its number.
    Batch(u64),
    /// Nobody: it is answered.
    Nobody,
}

/// What an answer means for the stream.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The write is settled, or was.
    Settled,
    /// The node is overloaded: the write is to be sent again, later.
    Again(ClientError),
    /// Another stream is needed, and everything unanswered is to be sent again.
    Broken(ClientError),
    /// Nothing can be written in this session any more.
    Over(ClientError),
}

impl Window {
    pub(super) fn new(from_sequence: u64, bytes_max: usize, acknowledge: Acknowledge) -> Self {
        Self {
            base: from_sequence,
            slots: VecDeque::new(),
            answered: from_sequence - 1,
            acknowledge,
            cursor: from_sequence,
            again: VecDeque::new(),
            stream: 0,
            batches: Batches::default(),
            deadline_min: None,
            bytes_max,
            unanswered: 0,
            freed: (0, 0),
        }
    }

    /// Takes a write.
    pub(super) fn push(&mut self, command: Bytes, deadline: Option<Instant>, waiter: Waiter) {
        let bytes = command.len().min(self.bytes_max);
        self.deadline_min = [self.deadline_min, deadline].into_iter().flatten().min();
        self.unanswered += 1;
        self.slots.push_back(Slot { command, bytes, waiter, deadline, sent_on: 0, token: None });
    }

    /// Takes a batch of writes.
    pub(super) fn push_batch(
        &mut self,
        commands: Vec<Bytes>,
        deadline: Option<Instant>,
        answer: oneshot::Sender<BatchAnswer>,
    ) {
        let first = self.base + self.slots.len() as u64;
        let Some(batch) = self.batches.add(first, commands.len(), answer) else { return };
        self.slots.reserve(commands.len());
        for command in commands {
            self.push(command, deadline, Waiter::Batch(batch));
        }
    }

    /// Whether every write is answered.
    pub(super) fn is_settled(&self) -> bool {
        self.unanswered == 0
    }

    /// Whether a message could be sent.
    pub(super) fn has_message(&self) -> bool {
        self.unanswered > 0 && (!self.again.is_empty() || self.cursor < self.end())
    }

    /// Whether the node owes an answer to something that was sent on the present stream.
    pub(super) fn is_awaited(&self) -> bool {
        self.unanswered > 0 && self.answered + 1 < self.cursor
    }

    /// A new stream begins: everything unanswered is to be sent on it.
    pub(super) fn restart(&mut self) {
        self.cursor = self.base;
        self.again.clear();
        self.stream += 1;
    }

    /// The writes of the next message, and what the node may forget.
    pub(super) fn next_message(&mut self) -> Option<(u64, Vec<StreamWrite>)> {
        let expected = self.again.len() + usize::try_from(self.end() - self.cursor).unwrap_or(usize::MAX);
        let mut writes = Vec::with_capacity(expected.min(MESSAGE_WRITES_MAX));
        let mut bytes = 0;
        while writes.len() < MESSAGE_WRITES_MAX {
            let again = self.again.front().copied();
            let sequence = again.unwrap_or(self.cursor);
            if sequence >= self.end() {
                break;
            }
            let stream = self.stream;
            let Some(slot) = self.slot(sequence) else { break };
            let open = !matches!(slot.waiter, Waiter::Nobody);
            if open && !writes.is_empty() && bytes + slot.command.len() > MESSAGE_BYTES_MAX {
                break;
            }
            if open {
                bytes += slot.command.len();
                writes.push(slot.message(sequence));
                if slot.sent_on == 0 {
                    slot.sent_on = stream;
                }
            }
            match again {
                Some(_) => drop(self.again.pop_front()),
                None => self.cursor += 1,
            }
        }
        let acknowledged = self.base - 1;
        (!writes.is_empty()).then_some((acknowledged, writes))
    }

    /// Takes the leader's acknowledgement of a write, whose outcome follows. From now on the write is only asked for: sent
    /// again, it would be executed although it was lost. A second one changes nothing.
    pub(super) fn acknowledged(&mut self, sequence: u64, token: Position) {
        let stream = self.stream;
        let Some(slot) = self.slot(sequence).filter(|slot| slot.token.is_none()) else { return };
        slot.waiter = match std::mem::replace(&mut slot.waiter, Waiter::Nobody) {
            Waiter::Early(told, answer) => {
                slot.token = Some((token, stream));
                slot.command = Bytes::new();
                // A caller that went away needs no token.
                let _ = told.send(token);
                Waiter::One(answer)
            }
            other => other,
        };
    }

    /// Takes the node's answer to a write. One that came before, or to a write that is not there, changes nothing.
    pub(super) fn answer(&mut self, sequence: u64, result: Result<Bytes, ClientError>) -> Verdict {
        let stream = self.stream;
        let Some(slot) = self.slot(sequence) else { return Verdict::Settled };
        if matches!(slot.waiter, Waiter::Nobody) {
            return Verdict::Settled;
        }
        let result = match result {
            Err(error) => match error.kind() {
                ErrorKind::Overloaded => {
                    self.again.push_back(sequence);
                    return Verdict::Again(error);
                }
                ErrorKind::ShuttingDown | ErrorKind::NotLeader | ErrorKind::Superseded => {
                    return Verdict::Broken(error);
                }
                ErrorKind::SessionExpired => {
                    // Sent on an earlier stream, it may have been executed while the session lived.
                    let doubtful = slot.sent_on != stream;
                    let told = if doubtful { error.clone().effect_unknown() } else { error.clone() };
                    self.settle(sequence, Err(told));
                    return Verdict::Over(error);
                }
                ErrorKind::AlreadyAnswered => Err(error),
                // One that was sent on an earlier stream, too, may be on its way still, and be executed elsewhere.
                ErrorKind::Lost if !slot.is_only_at_its_token() => Err(error.effect_unknown()),
                // The node does not know what became of it, and will once it is well again.
                _ if error.took_effect() == TookEffect::Unknown => return Verdict::Broken(error),
                _ => Err(error),
            },
            ok => ok,
        };
        self.settle(sequence, result);
        Verdict::Settled
    }

    /// The node refused the present stream for a message that is too large: ends the largest write that was sent on it alone
    /// in its message. Others may be too large as well, which the next stream shows. False where there is none, so that
    /// something else must be wrong.
    pub(super) fn refuse_large(&mut self, error: &ClientError) -> bool {
        let (stream, cursor) = (self.stream, self.cursor);
        let sent = (self.base..cursor).zip(&self.slots);
        let large = sent.filter(|(_, slot)| slot.command.len() > MESSAGE_BYTES_MAX);
        let Some((sequence, slot)) = large.max_by_key(|(_, slot)| slot.command.len()) else { return false };
        let only_here = slot.sent_on == stream;
        let error = if only_here { error.clone() } else { error.clone().effect_unknown() };
        self.settle(sequence, Err(error));
        true
    }

    /// The earliest moment at which [`Window::expire`] may find something.
    pub(super) fn deadline_min(&self) -> Option<Instant> {
        self.deadline_min.filter(|_| self.unanswered > 0)
    }

    /// Gives up what was not answered in time. The node never executes it later, once it is acknowledged.
    pub(super) fn expire(&mut self, now: Instant, trouble: Option<&ClientError>) {
        if self.deadline_min.is_none_or(|deadline| deadline > now) {
            return;
        }
        let late = |slot: &Slot| {
            !matches!(slot.waiter, Waiter::Nobody) && slot.deadline.is_some_and(|deadline| deadline <= now)
        };
        let numbered = (self.base..).zip(&self.slots);
        let expired: Vec<_> = numbered
            .filter(|(_, slot)| late(slot))
            .map(|(sequence, slot)| (sequence, slot.sent_on, slot.token))
            .collect();
        for (sequence, sent_on, token) in expired {
            let why = trouble.map_or_else(String::new, |error| format!("; the last error: {error}"));
            let message = match token {
                None => format!("the write was not answered in time{why}"),
                Some((token, _)) => format!(
                    "the leader acknowledged the write with token {token}; what became of it was not told in time{why}"
                ),
            };
            let error = ClientError::new(ErrorKind::DeadlineExceeded, message);
            let error = if sent_on == 0 { error.retryable() } else { error.retryable().effect_unknown() };
            self.settle(sequence, Err(error));
        }
        let open = self.slots.iter().filter(|slot| !matches!(slot.waiter, Waiter::Nobody));
        self.deadline_min = open.filter_map(|slot| slot.deadline).min();
    }

    /// Ends every unanswered write with an error.
    pub(super) fn fail(&mut self, error: &ClientError) {
        for sequence in self.base..self.end() {
            let Some(slot) = self.slot(sequence) else { continue };
            let error = if slot.sent_on == 0 { error.clone() } else { error.clone().effect_unknown() };
            self.settle(sequence, Err(error));
        }
    }

    /// With [`Acknowledge::ByCaller`]: forgets answered writes up to this one.
    pub(super) fn acknowledge(&mut self, up_to: u64) {
        if self.acknowledge == Acknowledge::ByCaller {
            self.release(up_to);
        }
    }

    /// Takes the room that became free since the last call.
    pub(super) fn take_freed(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.freed)
    }

    fn end(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        let position = sequence.checked_sub(self.base)?;
        self.slots.get_mut(usize::try_from(position).ok()?)
    }

    fn settle(&mut self, sequence: u64, result: Result<Bytes, ClientError>) {
        let Some(slot) = self.slot(sequence) else { return };
        let waiter = std::mem::replace(&mut slot.waiter, Waiter::Nobody);
        slot.command = Bytes::new();
        match waiter {
            Waiter::Nobody => return,
            // A caller that went away needs no answer.
            Waiter::One(answer) | Waiter::Early(_, answer) => drop(answer.send(result)),
            Waiter::Batch(batch) => self.batches.answer(batch, sequence, result),
        }
        self.unanswered -= 1;
        if sequence == self.answered + 1 {
            let settled = |slot: &&Slot| matches!(slot.waiter, Waiter::Nobody);
            let from = usize::try_from(sequence - self.base).unwrap_or(usize::MAX);
            self.answered += self.slots.range(from..).take_while(settled).count() as u64;
            if self.acknowledge == Acknowledge::WhenAnswered {
                self.release(self.answered);
            }
        }
    }

    fn release(&mut self, up_to: u64) {
        while self.base <= up_to.min(self.answered) {
            let Some(slot) = self.slots.pop_front() else { break };
            self.freed.0 += 1;
            self.freed.1 += slot.bytes;
            self.base += 1;
        }
        self.cursor = self.cursor.max(self.base);
    }
}

impl Slot {
    /// The write as it is sent: with its command, or once it is acknowledged by a leader with its token.
    fn message(&self, sequence: u64) -> StreamWrite {
        let ack = if matches!(self.waiter, Waiter::Early(..)) { v1::Ack::Leader } else { v1::Ack::Committed };
        let token = self.token.map(|(token, _)| token.into());
        StreamWrite { sequence, command: self.command.clone(), ack: ack.into(), token }
    }

    /// Whether its command went out on one stream only, the one on which its token came.
    fn is_only_at_its_token(&self) -> bool {
        self.token.is_some_and(|(_, stream)| stream == self.sent_on)
    }
}

/// Batches that are not answered whole.
#[derive(Debug, Default)]
struct Batches {
    /// The number of the first of `open`.
    base: u64,
    /// `None`: it was answered.
    open: VecDeque<Option<Batch>>,
}

#[derive(Debug)]
struct Batch {
    first: u64,
    results: Vec<Option<Result<Bytes, ClientError>>>,
    left: usize,
    answer: oneshot::Sender<BatchAnswer>,
}

impl Batches {
    /// Its number; `None` for an empty one, which is answered at once.
    fn add(&mut self, first: u64, count: usize, answer: oneshot::Sender<BatchAnswer>) -> Option<u64> {
        if count == 0 {
            let _ = answer.send(Vec::new());
            return None;
        }
        let results = vec![None; count];
        self.open.push_back(Some(Batch { first, results, left: count, answer }));
        Some(self.base + self.open.len() as u64 - 1)
    }

    fn answer(&mut self, number: u64, sequence: u64, result: Result<Bytes, ClientError>) {
        let position = usize::try_from(number - self.base).unwrap_or(usize::MAX);
        let Some(entry) = self.open.get_mut(position) else { return };
        let Some(batch) = entry else { return };
        let within = usize::try_from(sequence - batch.first).unwrap_or(usize::MAX);
        if let Some(place) = batch.results.get_mut(within) {
            *place = Some(result);
            batch.left -= 1;
        }
        if batch.left == 0
            && let Some(batch) = entry.take()
        {
            let _ = batch.answer.send(batch.results.into_iter().flatten().collect());
        }
        while let Some(None) = self.open.front() {
            self.open.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests;
