//! What the session table is for, without its bookkeeping: a plain model, and the place where sessions are kept.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mortise_core::ids::{LogIndex, Sequence, SessionId, TenantId};
use mortise_core::outcome::Outcome;
use mortise_core::session::{SessionKey, SessionTable, SessionWrite, Standing};
use mortise_core::time::LogTime;

/// The records of storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    headers: BTreeMap<SessionKey, Bytes>,
    records: BTreeMap<(SessionKey, LogIndex), Bytes>,
}

impl Kept {
    pub(crate) fn apply(&mut self, writes: Vec<SessionWrite>) {
        for write in writes {
            match write {
                SessionWrite::PutHeader(key, bytes) => {
                    self.headers.insert(key, bytes);
                }
                SessionWrite::PutRecord(key, index, bytes) => {
                    self.records.insert((key, index), bytes);
                }
                SessionWrite::DeleteRecord(key, index) => {
                    let old = self.records.remove(&(key, index));
                    assert!(old.is_some(), "record {index} of {key:?} was never written");
                }
                SessionWrite::DeleteSession(key) => {
                    self.headers.remove(&key);
                    self.records.retain(|(of, _), _| *of != key);
                }
            }
        }
    }

    /// The table as a replica has it that starts from these records.
    pub(crate) fn load(&self) -> SessionTable {
        let mut table = SessionTable::default();
        for (key, bytes) in &self.headers {
            table.load_header(*key, bytes.clone()).expect("a header comes back");
        }
        for ((key, index), bytes) in &self.records {
            table.load_record(*key, *index, bytes.clone()).expect("a record comes back");
        }
        table
    }

    /// Which records there are.
    pub(crate) fn names(&self) -> BTreeSet<(SessionKey, Option<LogIndex>)> {
        let records = self.records.keys().map(|(key, index)| (*key, Some(*index)));
        self.headers.keys().map(|key| (*key, None)).chain(records).collect()
    }
}

struct Session {
    ttl_ms: u64,
    used: u64,
    answered_up_to: u64,
    outcomes: BTreeMap<u64, Outcome>,
}

/// Sessions, and what was ever executed.
#[derive(Default)]
pub(crate) struct Model {
    sessions: BTreeMap<SessionKey, Session>,
    executed: BTreeSet<(SessionKey, u64)>,
}

impl Model {
    pub(crate) fn open(&mut self, key: SessionKey, ttl_ms: u64, time: u64) {
        let session = Session { ttl_ms, used: time, answered_up_to: 0, outcomes: BTreeMap::new() };
        self.sessions.insert(key, session);
    }

    pub(crate) fn close(&mut self, key: SessionKey) -> bool {
        self.sessions.remove(&key).is_some()
    }

    pub(crate) fn expire(&mut self, key: SessionKey, time: u64) -> bool {
        self.idle(time).contains(&key) && self.close(key)
    }

    pub(crate) fn idle(&self, time: u64) -> Vec<SessionKey> {
        let idle = self.sessions.iter().filter(|(_, session)| time > session.used + session.ttl_ms);
        idle.map(|(key, _)| *key).collect()
    }

    pub(crate) fn drop_tenant(&mut self, tenant: TenantId) {
        self.sessions.retain(|key, _| key.0 != tenant);
    }

    /// A write is carried out. Panics where it was before, or where its session is gone: the promise itself.
    pub(crate) fn execute(&mut self, key: SessionKey, sequence: u64, outcome: Outcome) {
        assert!(self.executed.insert((key, sequence)), "write {sequence} of {key:?} is executed twice");
        let session = self.sessions.get_mut(&key).expect("a write without a session is never executed");
        session.outcomes.insert(sequence, outcome);
    }

    pub(crate) fn touch(&mut self, key: SessionKey, time: u64, answered_up_to: u64) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.used = time;
            session.answered_up_to = session.answered_up_to.max(answered_up_to);
            session.outcomes.retain(|sequence, _| *sequence > session.answered_up_to);
        }
    }

    /// How a write should stand.
    pub(crate) fn standing(&self, key: SessionKey, sequence: u64) -> Standing {
        let Some(session) = self.sessions.get(&key) else { return Standing::Expired };
        if sequence <= session.answered_up_to {
            return Standing::Answered;
        }
        session.outcomes.get(&sequence).cloned().map_or(Standing::New, Standing::Recorded)
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Compares the table with the model, as seen by every write that a client could send.
    pub(crate) fn check(&self, table: &SessionTable, known: &[SessionKey], sequences: &[u64], time: u64) {
        let strangers =
            [(TenantId(1), SessionId::NONE), (TenantId(99), SessionId(1)), (TenantId(1), SessionId(9999))];
        for key in known.iter().chain(&strangers) {
            for sequence in sequences {
                let standing = table.check(*key, Sequence(*sequence));
                assert_eq!(standing, self.standing(*key, *sequence), "write {sequence} of {key:?}");
            }
        }
        assert_eq!(table.len(), self.len());
        assert_eq!(table.is_empty(), self.len() == 0);
        let idle = self.idle(time);
        assert_eq!(table.idle(LogTime(time), usize::MAX), idle);
        assert_eq!(table.idle(LogTime(time), 1), idle.into_iter().take(1).collect::<Vec<_>>());
    }
}
