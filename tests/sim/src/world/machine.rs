//! The replicated state of the world: registers and counters behind sessions, as small as a state machine can be that
//! still tells every history from every other.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use mortise_core::codec::{DecodeError, Reader, Writer};
use mortise_core::digest::Digest;
use mortise_core::entry::{Body, Command, Entry, SessionChange, Stamp};
use mortise_core::ids::{LogIndex, Sequence, SessionId, TenantId};
use mortise_core::outcome::Outcome;
use mortise_core::replica::{LogEntry, Position};
use mortise_core::session::{SessionDelta, SessionTable, SessionWrite, Standing};
use mortise_core::time::LogTime;

use crate::trace::Fingerprint;

/// The only tenant.
pub(crate) const TENANT: TenantId = TenantId(1);

/// A key of the state.
pub(crate) type Key = u8;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Puts a value in the place of the old one.
    Set(u64),
    /// Adds to a counter.
    Add(u64),
}

/// A command's payload: which operation of which client it is, and in which of its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) op: u64,
    pub(crate) attempt: u32,
    pub(crate) key: Key,
    pub(crate) operation: Operation,
}

impl Payload {
    /// Its bytes, with `filler` more so that windows fill up.
    pub(crate) fn encode(&self, filler: usize) -> Bytes {
        let mut writer = Writer::with_capacity(32 + filler);
        writer.count(self.op).count(self.attempt.into()).u8(self.key);
        match self.operation {
            Operation::Set(value) => writer.u8(0).count(value),
            Operation::Add(value) => writer.u8(1).count(value),
        };
        writer.bytes(&vec![0; filler]);
        writer.finish()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (op, attempt) = (reader.count("op")?, reader.count32("attempt")?);
        let key = reader.u8("key")?;
        let operation = match reader.u8("operation")? {
            0 => Operation::Set(reader.count("value")?),
            _ => Operation::Add(reader.count("value")?),
        };
        Ok(Self { op, attempt, key, operation })
    }
}

/// A key's value, and how many writes made it: the versions of a key are its writes in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Register {
    pub(crate) version: u64,
    pub(crate) value: u64,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was executed now.
    Executed(Register),
    /// It was executed before, with this result.
    Before(Register),
    /// Its session does not know it any more: it was not executed now.
    Expired,
}

/// What an entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Nothing,
    Opened(SessionId),
    Command(Payload, Done),
}

/// A state, with all that a snapshot of it holds.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) at: Position,
    pub(crate) digest: Digest,
    pub(crate) stamp: Stamp,
    /// Its digest is wrong, because it was taken of a replica whose state diverged.
    pub(crate) tainted: bool,
    registers: BTreeMap<Key, Register>,
    sessions: Vec<SessionWrite>,
}

impl Checkpoint {
    pub(crate) fn empty() -> Rc<Self> {
        Machine::default().checkpoint()
    }
}

/// The state machine of one replica.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// The last applied entry.
    pub(crate) at: Position,
    /// The chain of effect digests there.
    pub(crate) digest: Digest,
    pub(crate) stamp: Stamp,
    /// A fault of the simulation: the chain differs from the group's since then.
    pub(crate) tainted: bool,
    /// Where it was then, in this process: whoever was told the digest before has nothing to notice until the next entry.
    tainted_at: Option<Position>,
    registers: BTreeMap<Key, Register>,
    pub(crate) sessions: SessionTable,
}

impl Machine {
    /// Applies the next entry. An error says what cannot be read.
    pub(crate) fn apply(&mut self, entry: &LogEntry) -> Result<Applied, String> {
        let decoded = Entry::decode(entry.at.epoch, entry.at.index, entry.payload.clone());
        let decoded = decoded.map_err(|error| format!("entry {}: {error}", entry.at.index))?;
        let time = self.stamp.time.next(decoded.time);
        let mut delta = SessionDelta::default();
        let applied = match &decoded.body {
            Body::Session(change) => self.change_session(change, entry.at.index, time, &mut delta),
            Body::Commands(commands) => match commands.first() {
                Some(command) => self.command(command, entry.at.index, time, &mut delta)?,
                None => Applied::Nothing,
            },
            _ => Applied::Nothing,
        };
        self.at = entry.at;
        self.stamp = Stamp { time, profile: decoded.profile };
        self.chain(entry, &applied);
        Ok(applied)
    }

    pub(crate) fn read(&self, key: Key) -> Register {
        self.registers.get(&key).copied().unwrap_or_default()
    }

    /// From here on the chain of digests differs from the group's.
    pub(crate) fn taint(&mut self) {
        self.tainted = true;
        self.tainted_at = Some(self.at);
        if let Some(byte) = self.digest.0.last_mut() {
            *byte ^= 0xff;
        }
    }

    /// Whether what differs cannot have been noticed yet.
    pub(crate) fn differs_unseen(&self) -> bool {
        self.tainted_at == Some(self.at)
    }

    fn chain(&mut self, entry: &LogEntry, applied: &Applied) {
        let mut print = Fingerprint::default();
        print.add(&(self.digest, entry.at, &entry.payload));
        if let Applied::Command(_, Done::Executed(register) | Done::Before(register)) = applied {
            print.add(register);
        }
        let first = print.value();
        print.add(&first);
        let tail = if self.tainted { [0xff; 16] } else { [0; 16] };
        let parts = [&first.to_le_bytes()[..], &print.value().to_le_bytes(), &tail].concat();
        self.digest = Digest(parts.try_into().unwrap_or_default());
    }

    fn change_session(
        &mut self,
        change: &SessionChange,
        index: LogIndex,
        time: LogTime,
        delta: &mut SessionDelta,
    ) -> Applied {
        match change {
            SessionChange::Open { tenant, ttl_ms } => {
                let session = SessionId(index.0);
                self.sessions.open((*tenant, session), *ttl_ms, time, delta);
                Applied::Opened(session)
            }
            SessionChange::Close { tenant, session } => {
                self.sessions.close((*tenant, *session), delta);
                Applied::Nothing
            }
            SessionChange::Expire { sessions } => {
                sessions.iter().for_each(|key| _ = self.sessions.expire(*key, time, delta));
                Applied::Nothing
            }
        }
    }

    fn command(
        &mut self,
        command: &Command,
        index: LogIndex,
        time: LogTime,
        delta: &mut SessionDelta,
    ) -> Result<Applied, String> {
        let error = |error: DecodeError| format!("command of entry {index}: {error}");
        let payload = Payload::decode(command.payload.clone()).map_err(error)?;
        if command.session == SessionId::NONE {
            return Ok(Applied::Command(payload, Done::Executed(self.execute(&payload))));
        }
        let key = (command.tenant, command.session);
        let standing = self.sessions.check(key, command.sequence);
        let done = match standing {
            Standing::New => Done::Executed(self.execute(&payload)),
            Standing::Recorded(outcome) => Done::Before(reply(&outcome)),
            Standing::Answered | Standing::Expired => Done::Expired,
        };
        if let Done::Executed(register) = done {
            self.sessions.record(key, command.sequence, index, outcome(register), delta);
        }
        self.sessions.touch(key, time, command.answered_up_to, delta);
        Ok(Applied::Command(payload, done))
    }

    fn execute(&mut self, payload: &Payload) -> Register {
        let register = self.registers.entry(payload.key).or_default();
        register.version += 1;
        register.value = match payload.operation {
            Operation::Set(value) => value,
            Operation::Add(value) => register.value.wrapping_add(value),
        };
        *register
    }

    /// What a write of a session has come to, if it is recorded.
    pub(crate) fn recorded(&self, session: SessionId, sequence: Sequence) -> Option<Register> {
        match self.sessions.check((TENANT, session), sequence) {
            Standing::Recorded(outcome) => Some(reply(&outcome)),
            _ => None,
        }
    }

    pub(crate) fn checkpoint(&self) -> Rc<Checkpoint> {
        Rc::new(Checkpoint {
            at: self.at,
            digest: self.digest,
            stamp: self.stamp,
            tainted: self.tainted,
            registers: self.registers.clone(),
            sessions: self.sessions.dump(),
        })
    }

    /// The state of a checkpoint.
    pub(crate) fn restore(from: &Checkpoint) -> Result<Self, String> {
        let mut sessions = SessionTable::default();
        for write in &from.sessions {
            let loaded = match write {
                SessionWrite::PutHeader(key, bytes) => sessions.load_header(*key, bytes.clone()),
                SessionWrite::PutRecord(key, index, bytes) => {
                    sessions.load_record(*key, *index, bytes.clone())
                }
                SessionWrite::DeleteRecord(..) | SessionWrite::DeleteSession(..) => Ok(()),
            };
            loaded.map_err(|error| format!("a checkpoint's session: {error}"))?;
        }
        Ok(Self {
            at: from.at,
            digest: from.digest,
            stamp: from.stamp,
            tainted: from.tainted,
            tainted_at: None,
            registers: from.registers.clone(),
            sessions,
        })
    }
}

fn outcome(register: Register) -> Outcome {
    let mut writer = Writer::with_capacity(12);
    writer.count(register.version).count(register.value);
    Outcome::Applied(writer.finish())
}

fn reply(outcome: &Outcome) -> Register {
    let Outcome::Applied(bytes) = outcome else { return Register::default() };
    let mut reader = Reader::new(bytes.clone());
    let version = reader.count("version").unwrap_or_default();
    Register { version, value: reader.count("value").unwrap_or_default() }
}
