//! What bounds the session table: its window, its number of sessions, log time, and damaged records.

use bytes::Bytes;
use mortise_core::codec::{DecodeError, Writer};
use mortise_core::ids::{LogIndex, Sequence, SessionId, TenantId};
use mortise_core::outcome::Outcome;
use mortise_core::session::{
    SESSIONS_PER_TENANT_MAX, SessionDelta, SessionTable, SessionWrite, Standing, WINDOW_BYTES_MAX,
    WINDOW_OUTCOMES_MAX,
};
use mortise_core::time::LogTime;

use crate::session::{KEY, one_session};
use crate::session_model::Kept;

fn open() -> SessionTable {
    let mut table = SessionTable::default();
    assert!(table.open(KEY, 1000, LogTime(5000), &mut SessionDelta::default()));
    table
}

/// The table as it is after a restart from its dump.
fn again(table: &SessionTable) -> SessionTable {
    let mut kept = Kept::default();
    kept.apply(table.dump());
    kept.load()
}

fn answer(table: &mut SessionTable, up_to: u64) {
    table.touch(KEY, LogTime(5000), Sequence(up_to), &mut SessionDelta::default());
}

#[test]
fn a_window_has_room_for_its_bound_of_outcomes() {
    let mut table = open();
    assert!(table.has_room(KEY, Sequence(0), WINDOW_OUTCOMES_MAX));
    assert!(!table.has_room(KEY, Sequence(0), WINDOW_OUTCOMES_MAX + 1));
    for sequence in 1..=WINDOW_OUTCOMES_MAX as u64 {
        let outcome = Outcome::Applied(Bytes::new());
        table.record(KEY, Sequence(sequence), LogIndex(2), outcome, &mut SessionDelta::default());
    }
    for table in [&table, &again(&table)] {
        assert!(table.has_room(KEY, Sequence(0), 0));
        assert!(!table.has_room(KEY, Sequence(0), 1));
    }
    answer(&mut table, 1);
    assert!(table.has_room(KEY, Sequence(0), 1) && !table.has_room(KEY, Sequence(0), 2));
}

#[test]
fn a_window_has_room_for_its_bound_of_bytes() {
    let mut table = open();
    let fits = Outcome::Applied(vec![0; WINDOW_BYTES_MAX - Outcome::Applied(Bytes::new()).size()].into());
    table.record(KEY, Sequence(1), LogIndex(2), fits, &mut SessionDelta::default());
    assert!(table.has_room(KEY, Sequence(0), 1));
    let one_more = Outcome::Applied(Bytes::new());
    table.record(KEY, Sequence(2), LogIndex(3), one_more, &mut SessionDelta::default());
    for table in [&table, &again(&table)] {
        assert!(!table.has_room(KEY, Sequence(0), 1));
    }
    answer(&mut table, 1);
    assert!(table.has_room(KEY, Sequence(0), WINDOW_OUTCOMES_MAX - 1));
}

/// An acknowledgement travels with a write: a window that did not count it stayed full for ever.
#[test]
fn a_full_window_has_room_for_a_write_that_acknowledges_its_outcomes() {
    let mut table = open();
    let large = Outcome::Applied(vec![0; WINDOW_BYTES_MAX].into());
    table.record(KEY, Sequence(1), LogIndex(2), large, &mut SessionDelta::default());
    assert!(!table.has_room(KEY, Sequence(0), 1));
    assert!(table.has_room(KEY, Sequence(1), 1));
}

#[test]
fn a_session_that_does_not_exist_is_not_refused_for_want_of_room() {
    assert!(SessionTable::default().has_room(KEY, Sequence(0), WINDOW_OUTCOMES_MAX + 1));
}

#[test]
fn a_tenant_has_a_bounded_number_of_sessions() {
    let mut table = SessionTable::default();
    let mut delta = SessionDelta::default();
    for session in 1..=SESSIONS_PER_TENANT_MAX as u64 {
        assert!(table.open((TenantId(1), SessionId(session)), 1000, LogTime(0), &mut delta));
    }
    let one_more = (TenantId(1), SessionId(1 << 40));
    let mut refused = SessionDelta::default();
    for table in [&mut again(&table), &mut table] {
        assert!(!table.may_open(TenantId(1)));
        assert!(!table.open(one_more, 1000, LogTime(0), &mut refused));
        assert!(table.may_open(TenantId(2)));
    }
    assert_eq!(table.writes(LogIndex(1), refused), []);
    assert!(table.close(KEY, &mut delta));
    assert!(!table.close(KEY, &mut delta), "only once");
    assert!(table.open(one_more, 1000, LogTime(0), &mut delta));
    assert!(!table.may_open(TenantId(1)));
    table.drop_tenant(TenantId(1), &mut delta);
    assert!(table.is_empty());
    assert!(table.may_open(TenantId(1)));
}

/// A header read twice must not take two of the tenant's places.
#[test]
fn a_session_loaded_twice_counts_once() {
    let mut table = SessionTable::default();
    let writes = open().dump();
    let [SessionWrite::PutHeader(_, header)] = writes.as_slice() else {
        panic!("one header, not {writes:?}")
    };
    for _ in 0..SESSIONS_PER_TENANT_MAX {
        table.load_header(KEY, header.clone()).expect("a header comes back");
    }
    assert_eq!(table.len(), 1);
    assert!(table.may_open(KEY.0));
}

#[test]
fn a_session_ends_when_unused_for_longer_than_its_ttl() {
    let mut table = open();
    let mut delta = SessionDelta::default();
    assert!(!table.expire(KEY, LogTime(6000), &mut delta), "just as long");
    assert!(!table.expire(KEY, LogTime(0), &mut delta), "a time before its opening");
    table.touch(KEY, LogTime(5500), Sequence(0), &mut delta);
    assert!(!table.expire(KEY, LogTime(6500), &mut delta), "used since");
    table.touch(KEY, LogTime(5100), Sequence(0), &mut delta);
    assert_eq!(table.idle(LogTime(6500), 9), [], "an earlier use takes nothing away");
    assert_eq!(table.idle(LogTime(6501), 9), [KEY]);
    assert!(table.expire(KEY, LogTime(6501), &mut delta));
    assert_eq!(table.check(KEY, Sequence(1)), Standing::Expired);
}

/// `answered_up_to` of the largest number once left the write of that number behind: answered, yet kept for ever, in
/// memory but not in a replica that had restarted.
#[test]
fn the_last_sequence_of_all_is_forgotten_when_answered() {
    let mut table = open();
    let mut delta = SessionDelta::default();
    table.record(KEY, Sequence(u64::MAX), LogIndex(2), Outcome::Applied("x".into()), &mut delta);
    answer(&mut table, u64::MAX);
    assert_eq!(table.check(KEY, Sequence(u64::MAX)), Standing::Answered);
    assert_eq!(table.dump(), again(&table).dump());
    assert!(table.has_room(KEY, Sequence(0), WINDOW_OUTCOMES_MAX));
}

#[test]
fn a_damaged_header_or_record_is_refused() {
    let (_, kept) = one_session();
    for write in &kept {
        let (SessionWrite::PutHeader(_, bytes) | SessionWrite::PutRecord(_, _, bytes)) = write else {
            panic!("nothing was deleted: {write:?}");
        };
        let load = |bytes| match write {
            SessionWrite::PutHeader(..) => SessionTable::default().load_header(KEY, bytes),
            _ => open().load_record(KEY, LogIndex(2), bytes),
        };
        assert_eq!(load(bytes.clone()), Ok(()));
        for length in 0..bytes.len() {
            assert!(load(bytes.slice(..length)).is_err(), "{length} bytes of {write:?}");
        }
        let longer = Bytes::from([bytes.as_ref(), &[0]].concat());
        assert_eq!(load(longer), Err(DecodeError::LeftOver { count: 1 }));
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[at / 8] ^= 1 << (at % 8);
            let _ = load(flipped.into()); // Any answer but a panic.
        }
    }
}

#[test]
fn a_record_without_its_session_is_refused() {
    let mut writer = Writer::default();
    writer.count(0);
    let refused = SessionTable::default().load_record(KEY, LogIndex(2), writer.finish());
    assert_eq!(refused, Err(DecodeError::Malformed { what: "session record" }));
}
