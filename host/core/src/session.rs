//! The session table: which writes of which client were executed, and what became of them.
//!
//! It is replicated state, changed only by applying entries, in the manner of Raft's client sessions (Ongaro's
//! thesis, 6.3), with a window so that many writes of one session can be in flight. A write is executed only where
//! [`SessionTable::check`] says [`Standing::New`]; its outcome stays until the client says it has the answer.
//!
//! In storage a session is a header and one record for each entry that executed writes of it. What an entry
//! changes is gathered in a [`SessionDelta`], which goes into the same batch as the entry's effects.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{LogIndex, Sequence, SessionId, TenantId};
use crate::outcome::Outcome;
use crate::time::LogTime;

/// Most outcomes a session may have unanswered. A client that wants more in flight has to read its answers first.
pub const WINDOW_OUTCOMES_MAX: usize = 65_536;
/// Most bytes of outcomes a session may have unanswered.
pub const WINDOW_BYTES_MAX: usize = 16 << 20;
/// Most sessions of one tenant: bounds the table, however many clients come and vanish.
pub const SESSIONS_PER_TENANT_MAX: usize = 10_000;

/// A session's name: tenants never share one.
pub type SessionKey = (TenantId, SessionId);

/// How a write stands with its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Never executed: execute it.
    New,
    /// Executed; this became of it.
    Recorded(Outcome),
    /// The client said it had the answer, and the outcome is forgotten.
    Answered,
    /// No such session, or no longer: never execute it.
    Expired,
}

#[derive(Clone, Debug)]
struct Session {
    ttl_ms: u64,
    used: LogTime,
    answered_up_to: Sequence,
    outcomes: BTreeMap<Sequence, (LogIndex, Outcome)>,
    bytes: usize,
    /// What each entry recorded.
    records: BTreeMap<LogIndex, Record>,
}

/// The outcomes that one entry recorded for a session.
#[derive(Clone, Debug, Default)]
struct Record {
    sequences: Vec<Sequence>,
    /// How many of them are not answered yet.
    left: usize,
}

/// All sessions of a group.
#[derive(Debug, Default)]
pub struct SessionTable {
    sessions: HashMap<SessionKey, Session>,
    per_tenant: HashMap<TenantId, usize>,
}

/// What an entry changed in the table, for storage.
#[derive(Debug, Default)]
pub struct SessionDelta {
    touched: BTreeSet<SessionKey>,
    removed: BTreeSet<SessionKey>,
    forgotten: BTreeSet<(SessionKey, LogIndex)>,
}

/// A write to the place where sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionWrite {
    /// A session's header.
    PutHeader(SessionKey, Bytes),
    /// The outcomes that the entry recorded for the session.
    PutRecord(SessionKey, LogIndex, Bytes),
    /// The entry's outcomes are all answered.
    DeleteRecord(SessionKey, LogIndex),
    /// The session ended: its header and all its records go.
    DeleteSession(SessionKey),
}

impl SessionTable {
    /// How a write stands.
    pub fn check(&self, key: SessionKey, sequence: Sequence) -> Standing {
        match self.sessions.get(&key) {
            None => Standing::Expired,
            Some(session) if sequence <= session.answered_up_to => Standing::Answered,
            Some(session) => match session.outcomes.get(&sequence) {
                Some((_, outcome)) => Standing::Recorded(outcome.clone()),
                None => Standing::New,
            },
        }
    }

    /// Whether the session's window has room for `more` writes in flight beside what it holds, once what its client
    /// has the answers to, up to `answered_up_to`, is forgotten: such an acknowledgement travels with a write.
    pub fn has_room(&self, key: SessionKey, answered_up_to: Sequence, more: usize) -> bool {
        let Some(session) = self.sessions.get(&key) else { return true };
        let fits =
            |count: usize, bytes: usize| count + more <= WINDOW_OUTCOMES_MAX && bytes <= WINDOW_BYTES_MAX;
        if fits(session.outcomes.len(), session.bytes) {
            return true;
        }
        let left = (std::ops::Bound::Excluded(answered_up_to), std::ops::Bound::Unbounded);
        let left = session.outcomes.range(left);
        let (count, bytes) =
            left.fold((0, 0), |(count, bytes), (_, (_, outcome))| (count + 1, bytes + outcome.size()));
        fits(count, bytes)
    }

    /// Whether the tenant may have one more session.
    pub fn may_open(&self, tenant: TenantId) -> bool {
        self.per_tenant.get(&tenant).copied().unwrap_or(0) < SESSIONS_PER_TENANT_MAX
    }

    /// Opens a session. False where the tenant has too many.
    pub fn open(&mut self, key: SessionKey, ttl_ms: u64, time: LogTime, delta: &mut SessionDelta) -> bool {
        if !self.may_open(key.0) {
            return false;
        }
        *self.per_tenant.entry(key.0).or_default() += 1;
        self.sessions.insert(key, Session::new(ttl_ms, time));
        delta.touched.insert(key);
        true
    }

    /// Ends a session. False where there is none.
    pub fn close(&mut self, key: SessionKey, delta: &mut SessionDelta) -> bool {
        if self.sessions.remove(&key).is_none() {
            return false;
        }
        if let Some(count) = self.per_tenant.get_mut(&key.0) {
            *count = count.saturating_sub(1);
        }
        delta.removed.insert(key);
        true
    }

    /// Ends the session if it has been unused longer than its TTL at `time`.
    pub fn expire(&mut self, key: SessionKey, time: LogTime, delta: &mut SessionDelta) -> bool {
        self.is_idle(key, time) && self.close(key, delta)
    }

    /// Ends every session of the tenant.
    pub fn drop_tenant(&mut self, tenant: TenantId, delta: &mut SessionDelta) {
        let keys: Vec<_> = self.sessions.keys().filter(|key| key.0 == tenant).copied().collect();
        for key in keys {
            self.close(key, delta);
        }
        self.per_tenant.remove(&tenant);
    }

    /// Sessions unused longer than their TTL at `time`, in order, at most `max`.
    pub fn idle(&self, time: LogTime, max: usize) -> Vec<SessionKey> {
        let idle: BTreeSet<_> =
            self.sessions.keys().filter(|key| self.is_idle(**key, time)).copied().collect();
        idle.into_iter().take(max).collect()
    }

    fn is_idle(&self, key: SessionKey, time: LogTime) -> bool {
        self.sessions.get(&key).is_some_and(|session| time.since(session.used) > session.ttl_ms)
    }

    /// Records what became of a write that stood [`Standing::New`]. Without such a session nothing happens.
    pub fn record(
        &mut self,
        key: SessionKey,
        sequence: Sequence,
        index: LogIndex,
        outcome: Outcome,
        delta: &mut SessionDelta,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.bytes += outcome.size();
        session.outcomes.insert(sequence, (index, outcome));
        session.records.entry(index).or_default().add(sequence);
        delta.touched.insert(key);
    }

    /// The session was used at `time`, and its client has the answers up to `answered_up_to`. What a client calls
    /// answered is never executed later, whether or not it had been.
    pub fn touch(
        &mut self,
        key: SessionKey,
        time: LogTime,
        answered_up_to: Sequence,
        delta: &mut SessionDelta,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.used = session.used.max(time);
        delta.touched.insert(key);
        if answered_up_to <= session.answered_up_to {
            return;
        }
        session.answered_up_to = answered_up_to;
        // Not `next`, which saturates: it would keep the last sequence of all.
        let first_left = answered_up_to.0.checked_add(1).map(Sequence);
        let left = first_left.map_or_else(BTreeMap::new, |first| session.outcomes.split_off(&first));
        for (_, (index, outcome)) in std::mem::replace(&mut session.outcomes, left) {
            session.bytes = session.bytes.saturating_sub(outcome.size());
            if let Some(record) = session.records.get_mut(&index) {
                record.left = record.left.saturating_sub(1);
                if record.left == 0 {
                    session.records.remove(&index);
                    delta.forgotten.insert((key, index));
                }
            }
        }
    }

    /// What storage has to write for the changes that the entry at `index` made.
    pub fn writes(&self, index: LogIndex, delta: SessionDelta) -> Vec<SessionWrite> {
        let mut writes = Vec::new();
        for key in delta.touched {
            let Some(session) = self.sessions.get(&key) else { continue };
            writes.push(SessionWrite::PutHeader(key, session.header()));
            if session.records.contains_key(&index) {
                writes.push(SessionWrite::PutRecord(key, index, session.record(index)));
            }
        }
        let forgotten =
            delta.forgotten.into_iter().filter(|(key, at)| *at != index && self.sessions.contains_key(key));
        writes.extend(forgotten.map(|(key, at)| SessionWrite::DeleteRecord(key, at)));
        writes.extend(delta.removed.into_iter().map(SessionWrite::DeleteSession));
        writes
    }

    /// Everything, as writes to an empty place: for snapshots. In order, so that equal tables give equal bytes.
    pub fn dump(&self) -> Vec<SessionWrite> {
        let keys: BTreeSet<_> = self.sessions.keys().copied().collect();
        let mut writes = Vec::new();
        for key in keys {
            let Some(session) = self.sessions.get(&key) else { continue };
            writes.push(SessionWrite::PutHeader(key, session.header()));
            let records = session.records.keys();
            writes.extend(records.map(|index| SessionWrite::PutRecord(key, *index, session.record(*index))));
        }
        writes
    }

    /// Takes a header back from storage. Headers come before records.
    pub fn load_header(&mut self, key: SessionKey, bytes: Bytes) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut session = Session::new(reader.count("session ttl")?, LogTime(reader.count("session used")?));
        session.answered_up_to = Sequence(reader.count("answered up to")?);
        reader.finish()?;
        if self.sessions.insert(key, session).is_none() {
            *self.per_tenant.entry(key.0).or_default() += 1;
        }
        Ok(())
    }

    /// Takes an entry's outcomes back from storage.
    pub fn load_record(&mut self, key: SessionKey, index: LogIndex, bytes: Bytes) -> Result<(), DecodeError> {
        let session = self.sessions.get_mut(&key).ok_or(DecodeError::Malformed { what: "session record" })?;
        let mut reader = Reader::new(bytes);
        for _ in 0..reader.count("outcome count")? {
            let sequence = Sequence(reader.count("sequence")?);
            let outcome = Outcome::decode(&mut reader)?;
            if sequence <= session.answered_up_to {
                continue;
            }
            session.bytes += outcome.size();
            session.outcomes.insert(sequence, (index, outcome));
            session.records.entry(index).or_default().add(sequence);
        }
        reader.finish()
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl Session {
    fn new(ttl_ms: u64, time: LogTime) -> Self {
        Self {
            ttl_ms,
            used: time,
            answered_up_to: Sequence(0),
            outcomes: BTreeMap::new(),
            bytes: 0,
            records: BTreeMap::new(),
        }
    }

    fn header(&self) -> Bytes {
        let mut writer = Writer::with_capacity(24);
        writer.count(self.ttl_ms).count(self.used.0).count(self.answered_up_to.0);
        writer.finish()
    }

    fn record(&self, index: LogIndex) -> Bytes {
        let mut writer = Writer::default();
        let sequences = self.records.get(&index).map_or(&[][..], |record| &record.sequences);
        writer.count(self.records.get(&index).map_or(0, |record| record.left) as u64);
        for sequence in sequences {
            if let Some((_, outcome)) = self.outcomes.get(sequence) {
                writer.count(sequence.0);
                outcome.encode(&mut writer);
            }
        }
        writer.finish()
    }
}

impl Record {
    fn add(&mut self, sequence: Sequence) {
        self.sequences.push(sequence);
        self.left += 1;
    }
}
