//! Random histories of entries, carried out against the session table and against a model of it.

use std::collections::BTreeMap;

use mortise_core::codec::Writer;
use mortise_core::ids::{LogIndex, Sequence, SessionId, TenantId};
use mortise_core::outcome::Outcome;
use mortise_core::session::{SessionDelta, SessionKey, SessionTable, SessionWrite, Standing};
use mortise_core::time::LogTime;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::generate::{bytes, fixed, number, outcome};
use crate::session_model::{Kept, Model};

/// The sequences that clients use: few, so that they repeat; 0, which is answered from the start; the last ones.
const SEQUENCES: [u64; 10] = [0, 1, 2, 3, 4, 5, 6, 7, u64::MAX - 1, u64::MAX];

/// A write of some session, opened or ended earlier.
#[derive(Clone, Debug)]
struct Write {
    session: Index,
    sequence: u64,
    answered_up_to: u64,
    outcome: Outcome,
}

#[derive(Clone, Debug)]
enum Event {
    Open {
        tenant: u64,
        ttl_ms: u64,
    },
    Close(Index),
    Expire(Vec<Index>),
    DropTenant(u64),
    Writes(Vec<Write>),
    /// The replica starts again from what it kept.
    Restart,
    /// The replica is replaced by one that got a snapshot.
    Restore,
}

fn written() -> impl Strategy<Value = Write> {
    let sequence = prop::sample::select(SEQUENCES.to_vec());
    let answered = prop_oneof![8 => 0..5u64, 1 => prop::sample::select(SEQUENCES.to_vec())];
    (any::<Index>(), sequence, answered, outcome()).prop_map(
        |(session, sequence, answered_up_to, outcome)| Write { session, sequence, answered_up_to, outcome },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1..3u64, 0..30u64).prop_map(|(tenant, ttl_ms)| Event::Open { tenant, ttl_ms }),
        1 => any::<Index>().prop_map(Event::Close),
        2 => vec(any::<Index>(), 0..4).prop_map(Event::Expire),
        1 => (1..3u64).prop_map(Event::DropTenant),
        12 => vec(written(), 1..6).prop_map(Event::Writes),
        1 => Just(Event::Restart),
        1 => Just(Event::Restore),
    ]
}

/// A replica's table with what it keeps of it, and the model beside it.
#[derive(Default)]
struct Replica {
    table: SessionTable,
    kept: Kept,
    model: Model,
    known: Vec<SessionKey>,
}

impl Replica {
    fn apply(&mut self, event: &Event, index: LogIndex, time: u64) -> Vec<SessionWrite> {
        let mut delta = SessionDelta::default();
        match event {
            Event::Open { tenant, ttl_ms } => {
                let key = (TenantId(*tenant), SessionId(index.0));
                assert!(self.table.open(key, *ttl_ms, LogTime(time), &mut delta));
                self.model.open(key, *ttl_ms, time);
                self.known.push(key);
            }
            Event::Close(which) => {
                if let Some(key) = self.pick(which) {
                    assert_eq!(self.table.close(key, &mut delta), self.model.close(key));
                }
            }
            Event::Expire(which) => {
                for key in which.iter().filter_map(|which| self.pick(which)).collect::<Vec<_>>() {
                    let expired = self.table.expire(key, LogTime(time), &mut delta);
                    assert_eq!(expired, self.model.expire(key, time), "{key:?}");
                }
            }
            Event::DropTenant(tenant) => {
                self.table.drop_tenant(TenantId(*tenant), &mut delta);
                self.model.drop_tenant(TenantId(*tenant));
            }
            Event::Writes(writes) => self.writes(writes, index, time, &mut delta),
            Event::Restart => self.table = self.kept.load(),
            Event::Restore => {
                self.kept = Kept::default();
                self.kept.apply(self.table.dump());
                self.table = self.kept.load();
            }
        }
        self.table.writes(index, delta)
    }

    /// Carries out an entry of commands as a replica does: what stood new before the entry is executed, once; then
    /// outcomes are recorded, then what clients have answers to is forgotten.
    fn writes(&mut self, writes: &[Write], index: LogIndex, time: u64, delta: &mut SessionDelta) {
        let mut executed = BTreeMap::new();
        let mut answered: BTreeMap<SessionKey, u64> = BTreeMap::new();
        for write in writes {
            let Some(key) = self.pick(&write.session) else { continue };
            let standing = self.table.check(key, Sequence(write.sequence));
            assert_eq!(standing, self.model.standing(key, write.sequence));
            if standing == Standing::New {
                // A duplicate within the entry gets the outcome of the first.
                executed.entry((key, write.sequence)).or_insert(&write.outcome);
            }
            let up_to = answered.entry(key).or_default();
            *up_to = (*up_to).max(write.answered_up_to);
        }
        for ((key, sequence), outcome) in executed {
            self.model.execute(key, sequence, outcome.clone());
            self.table.record(key, Sequence(sequence), index, outcome.clone(), delta);
        }
        for (key, up_to) in answered {
            self.table.touch(key, LogTime(time), Sequence(up_to), delta);
            self.model.touch(key, time, up_to);
        }
    }

    fn pick(&self, which: &Index) -> Option<SessionKey> {
        (!self.known.is_empty()).then(|| self.known[which.index(self.known.len())])
    }

    fn check(&self, time: u64) {
        self.model.check(&self.table, &self.known, &SEQUENCES, time);
        let loaded = self.kept.load();
        assert_eq!(loaded.dump(), self.table.dump(), "what is kept makes another table");
        let mut dumped = Kept::default();
        dumped.apply(self.table.dump());
        assert_eq!(self.kept.names(), dumped.names(), "records are missing or kept for nothing");
        self.model.check(&loaded, &self.known, &SEQUENCES, time);
    }
}

proptest! {
    #![proptest_config(fixed(400))]

    #[test]
    fn a_history_leaves_what_the_model_has_and_what_is_kept_makes_the_same_table(
        events in vec((event(), 0..15u64), 0..40),
    ) {
        // The twin's hash tables have another order.
        let (mut replica, mut twin) = (Replica::default(), Replica::default());
        let mut time = 1000;
        for (at, (event, later)) in events.iter().enumerate() {
            time += later;
            let index = LogIndex(at as u64 + 1);
            let writes = replica.apply(event, index, time);
            prop_assert_eq!(&twin.apply(event, index, time), &writes, "the writes are not deterministic");
            replica.kept.apply(writes.clone());
            twin.kept.apply(writes);
            replica.check(time);
            prop_assert_eq!(replica.table.dump(), twin.table.dump(), "the dump is not deterministic");
        }
    }

    #[test]
    fn hostile_records_are_refused_without_a_panic(
        header in bytes(20),
        record in bytes(30),
        count in number(),
    ) {
        // Whatever they hold: any answer but a panic.
        let _ = SessionTable::default().load_header(KEY, header);
        let mut table = one_session().0;
        let _ = table.load_record(KEY, LogIndex(2), record);
        let mut writer = Writer::default();
        writer.count(count);
        let refused = table.load_record(KEY, LogIndex(3), writer.finish()).is_err();
        prop_assert_eq!(refused, count > 0);
    }
}

pub(crate) const KEY: SessionKey = (TenantId(1), SessionId(1));

/// A table with a session of three writes, executed by two entries, and what is kept of it.
pub(crate) fn one_session() -> (SessionTable, Vec<SessionWrite>) {
    let mut table = SessionTable::default();
    let mut kept = Vec::new();
    let mut delta = SessionDelta::default();
    table.open(KEY, 1000, LogTime(5000), &mut delta);
    kept.extend(table.writes(LogIndex(1), delta));
    for (index, sequences) in [(2, &[1u64, 2][..]), (3, &[3])] {
        let mut delta = SessionDelta::default();
        for sequence in sequences {
            let outcome = Outcome::Applied(format!("reply {sequence}").into());
            table.record(KEY, Sequence(*sequence), LogIndex(index), outcome, &mut delta);
        }
        kept.extend(table.writes(LogIndex(index), delta));
    }
    (table, kept)
}

#[test]
fn a_write_sent_again_gets_its_outcome_until_it_is_answered() {
    let (mut table, _) = one_session();
    let recorded = Standing::Recorded(Outcome::Applied("reply 2".into()));
    assert_eq!(table.check(KEY, Sequence(2)), recorded);
    let mut delta = SessionDelta::default();
    table.touch(KEY, LogTime(5001), Sequence(1), &mut delta);
    assert_eq!(table.check(KEY, Sequence(1)), Standing::Answered);
    assert_eq!(table.check(KEY, Sequence(2)), recorded);
    assert_eq!(table.check(KEY, Sequence(4)), Standing::New);
}

#[test]
fn what_is_answered_stays_answered_when_a_late_write_says_less() {
    let (mut table, _) = one_session();
    let mut delta = SessionDelta::default();
    table.touch(KEY, LogTime(5001), Sequence(3), &mut delta);
    table.touch(KEY, LogTime(5002), Sequence(1), &mut delta);
    assert_eq!(table.check(KEY, Sequence(3)), Standing::Answered);
}

#[test]
fn a_write_without_a_living_session_is_expired() {
    let (mut table, _) = one_session();
    assert_eq!(table.check((TenantId(2), KEY.1), Sequence(4)), Standing::Expired, "of another tenant");
    assert_eq!(table.check((KEY.0, SessionId::NONE), Sequence(4)), Standing::Expired);
    let mut delta = SessionDelta::default();
    assert!(table.close(KEY, &mut delta));
    assert_eq!(table.check(KEY, Sequence(1)), Standing::Expired, "also where its outcome was recorded");
    table.record(KEY, Sequence(4), LogIndex(9), Outcome::Applied("x".into()), &mut delta);
    table.touch(KEY, LogTime(9000), Sequence(4), &mut delta);
    assert_eq!(table.check(KEY, Sequence(4)), Standing::Expired, "no write brings it back");
    assert_eq!(table.writes(LogIndex(9), delta), [SessionWrite::DeleteSession(KEY)]);
}

#[test]
fn a_record_is_deleted_once_its_last_outcome_is_answered() {
    let (mut table, _) = one_session();
    let mut delta = SessionDelta::default();
    table.touch(KEY, LogTime(5001), Sequence(1), &mut delta);
    let writes = table.writes(LogIndex(4), delta);
    assert!(matches!(writes.as_slice(), [SessionWrite::PutHeader(..)]), "{writes:?}");
    let mut delta = SessionDelta::default();
    table.touch(KEY, LogTime(5001), Sequence(2), &mut delta);
    let writes = table.writes(LogIndex(5), delta);
    let deleted = SessionWrite::DeleteRecord(KEY, LogIndex(2));
    assert!(
        matches!(writes.as_slice(), [SessionWrite::PutHeader(..), write] if *write == deleted),
        "{writes:?}"
    );
}

#[test]
fn a_write_answered_by_its_own_entry_leaves_no_record() {
    let (mut table, _) = one_session();
    let mut delta = SessionDelta::default();
    table.record(KEY, Sequence(4), LogIndex(4), Outcome::Applied("x".into()), &mut delta);
    table.touch(KEY, LogTime(5001), Sequence(4), &mut delta);
    let writes = table.writes(LogIndex(4), delta);
    let records = [2, 3].map(|index| SessionWrite::DeleteRecord(KEY, LogIndex(index)));
    assert_eq!(writes[1..], records, "those before, but none of entry 4, which was never written");
}

#[test]
fn an_outcome_is_kept_also_if_its_session_is_not_touched() {
    let (table, writes) = one_session();
    let mut kept = Kept::default();
    kept.apply(writes);
    assert_eq!(kept.load().dump(), table.dump());
}

#[test]
fn a_session_ended_by_the_entry_that_used_it_leaves_nothing_but_its_end() {
    let (mut table, _) = one_session();
    let mut delta = SessionDelta::default();
    table.record(KEY, Sequence(4), LogIndex(4), Outcome::Applied("x".into()), &mut delta);
    table.touch(KEY, LogTime(5001), Sequence(2), &mut delta);
    table.close(KEY, &mut delta);
    assert_eq!(table.writes(LogIndex(4), delta), [SessionWrite::DeleteSession(KEY)]);
}
