//! The small state of a replica and the record in it, read from bytes that were cut or changed.

use bytes::Bytes;
use mortise_core::codec::{Reader, Writer};
use mortise_core::group::{BootId, Generation, GroupRecord, Incarnation, LeaseId, NodeId, Nonce};
use mortise_core::ids::{Epoch, LogIndex};
use mortise_core::replica::{HardState, Promise, Seen};

/// A record with every field in use.
fn record() -> GroupRecord {
    let voters = [1, 2, 300].map(|node| (NodeId(node), Incarnation(u64::MAX - node)));
    let record = GroupRecord::create(1, &voters, 2, Nonce(1)).expect("a group");
    let record = record.elect(NodeId(2), Epoch(5), BootId(1000), LeaseId(u64::MAX), Nonce(2));
    let record = record.shrink(&[NodeId(1), NodeId(300)].into(), Nonce(3));
    record.add(NodeId(7), Nonce(u64::MAX)).expect("a member")
}

fn state() -> HardState {
    HardState {
        incarnation: Incarnation(u64::MAX),
        promised: Promise { epoch: Epoch(5), leader: Some(NodeId(2)), boot: BootId(1000) },
        asked: Epoch(6),
        generation: Generation(3),
        seen: Some(Seen { coordinator: u64::MAX, revision: 900, mod_revision: 800, record: Some(record()) }),
        frozen: true,
        quarantined: Some(LogIndex(70)),
    }
}

#[test]
fn the_state_is_read_back_as_it_was_written() {
    let without_record = Seen { coordinator: 1, revision: 2, mod_revision: 0, record: None };
    let states = [
        HardState::default(),
        HardState { seen: None, ..state() },
        HardState { seen: Some(without_record), quarantined: None, ..state() },
        state(),
    ];
    for state in states {
        assert_eq!(HardState::decode(state.encode()), Ok(state));
    }
}

#[test]
fn every_cut_is_noticed() {
    let bytes = state().encode();
    for end in 0..bytes.len() {
        assert!(HardState::decode(bytes.slice(..end)).is_err(), "cut at {end}");
    }
    let longer: Bytes = [&bytes[..], &[0]].concat().into();
    assert!(HardState::decode(longer).is_err(), "something behind it");
}

/// A changed byte gives an error, or another state: never a panic, never a record that cannot be, and never two
/// readings of one state.
#[test]
fn every_changed_byte_is_an_error_or_another_state() {
    let (bytes, written) = (state().encode(), state());
    let mut refused = 0;
    for at in 0..bytes.len() {
        for flip in 1..=255u8 {
            let mut changed = bytes.to_vec();
            changed[at] ^= flip;
            let changed = Bytes::from(changed);
            match HardState::decode(changed.clone()) {
                Err(_) => refused += 1,
                Ok(read) => {
                    assert_ne!(read, written, "byte {at}");
                    assert_eq!(read.encode(), changed, "byte {at}: two encodings of one state");
                    let record = read.seen.and_then(|seen| seen.record);
                    assert_eq!(record.map_or(Ok(()), |record| record.check()), Ok(()), "byte {at}");
                }
            }
        }
    }
    assert!(refused > 1000, "only {refused} changes were refused");
}

#[test]
fn every_changed_byte_of_a_record_is_an_error_or_another_record() {
    let mut writer = Writer::default();
    record().encode(&mut writer);
    let bytes = writer.finish();
    for at in 0..bytes.len() {
        assert!(GroupRecord::decode(&mut Reader::new(bytes.slice(..at))).is_err(), "cut at {at}");
        for flip in 1..=255u8 {
            let mut changed = bytes.to_vec();
            changed[at] ^= flip;
            if let Ok(read) = GroupRecord::decode(&mut Reader::new(changed.into())) {
                assert_ne!(read, record(), "byte {at}");
            }
        }
    }
}
