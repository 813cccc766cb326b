//! The compiled plugin's commands, run as a node runs them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use mortise_commands::kv::condition::Expected;
use mortise_commands::kv::{
    Batch, Command, CompareAndSwap, DeleteRange, KeyRange, Operation, Record, Reply, Request, Response,
    command, response,
};
use mortise_testkit::{Failure, Limit, Outcome, Profile, RejectionKind, Tenant, conformance};
use prost::Message;
use support::*;

fn tenant() -> Tenant {
    Tenant::build("mortise-plugin-kv").unwrap()
}

fn apply(tenant: &mut Tenant, command: &Command) -> Reply {
    match tenant.apply(&command.encode_to_vec()) {
        Outcome::Applied(reply) => Reply::decode(reply).unwrap(),
        other => panic!("{command:?}: {other:?}"),
    }
}

fn find(tenant: &mut Tenant, key: impl AsRef<[u8]>) -> Option<Record> {
    match tenant.query(&get(key).encode_to_vec()) {
        Outcome::Applied(response) => match Response::decode(response).unwrap().result {
            Some(response::Result::Get(get)) => get.record,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn value_of(tenant: &mut Tenant, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    find(tenant, key).map(|record| record.value)
}

#[test]
fn a_key_is_put_read_and_removed() {
    let mut tenant = tenant();
    assert_eq!(value_of(&mut tenant, "a"), None);
    assert_eq!(apply(&mut tenant, &put("a", "1")), Reply { version: 1, deleted: 0 });
    assert_eq!(apply(&mut tenant, &put("a", "2")), Reply { version: 2, deleted: 0 });
    let record = Record { key: b"a".into(), value: b"2".into(), version: 2, expires_ms: 0 };
    assert_eq!(find(&mut tenant, "a"), Some(record));
    assert_eq!(apply(&mut tenant, &delete("a")), Reply { version: 3, deleted: 1 });
    assert_eq!(apply(&mut tenant, &delete("a")), Reply { version: 4, deleted: 0 });
    assert_eq!(value_of(&mut tenant, "a"), None);
    assert!(tenant.state().is_empty());
}

#[test]
fn keys_and_values_are_any_bytes() {
    let mut tenant = tenant();
    let all: Vec<u8> = (0..=255).collect();
    for byte in 0..=255u8 {
        apply(&mut tenant, &put([byte, 0, 255], &all));
    }
    for byte in 0..=255u8 {
        assert_eq!(value_of(&mut tenant, [byte, 0, 255]).as_deref(), Some(all.as_slice()));
    }
    let long = vec![255; 4080];
    apply(&mut tenant, &put_for(&long, "", 5));
    assert_eq!(value_of(&mut tenant, &long), Some(vec![]));
    tenant.assert_snapshot_roundtrip();
}

#[test]
fn a_swap_needs_what_it_expects() {
    let mut tenant = tenant();
    let refused = |tenant: &mut Tenant, command: &Command| {
        let rejection = tenant.apply_rejected(&command.encode_to_vec());
        assert_eq!((rejection.kind, rejection.code.as_str()), (RejectionKind::Conflict, "compare_failed"));
    };
    refused(&mut tenant, &swap("a", Expected::Version(1), "x"));
    refused(&mut tenant, &swap("a", value(""), "x"));
    refused(&mut tenant, &swap("a", Expected::Absent(false), "x"));
    let Reply { version, .. } = apply(&mut tenant, &swap("a", Expected::Absent(true), "1"));
    refused(&mut tenant, &swap("a", Expected::Absent(true), "x"));
    refused(&mut tenant, &swap("a", Expected::Version(version + 1), "x"));
    refused(&mut tenant, &swap("a", value("2"), "x"));
    let Reply { version, .. } = apply(&mut tenant, &swap("a", Expected::Version(version), "2"));
    apply(&mut tenant, &swap("a", value("2"), "3"));
    refused(&mut tenant, &swap("a", Expected::Version(version), "x"));
    apply(&mut tenant, &swap("a", Expected::Absent(false), "4"));
    assert_eq!(value_of(&mut tenant, "a"), Some(b"4".into()));
}

#[test]
fn put_if_absent_keeps_what_is_there() {
    let mut tenant = tenant();
    apply(&mut tenant, &put_if_absent("a", "1", 0));
    let rejection = tenant.apply_rejected(&put_if_absent("a", "2", 0).encode_to_vec());
    assert_eq!((rejection.kind, rejection.code.as_str()), (RejectionKind::Conflict, "already_exists"));
    assert_eq!(value_of(&mut tenant, "a"), Some(b"1".into()));
}

#[test]
fn a_range_of_keys_is_removed() {
    let mut tenant = tenant();
    for key in ["a", "a1", "a2", "b", "c"] {
        apply(&mut tenant, &put(key, key));
    }
    assert_eq!(apply(&mut tenant, &delete_range(prefix("a"), true)).deleted, 3);
    assert_eq!(apply(&mut tenant, &delete_range(between("b", "c"), false)).deleted, 0);
    assert_eq!(value_of(&mut tenant, "b"), None);
    assert_eq!(value_of(&mut tenant, "c"), Some(b"c".into()));
    let all = DeleteRange { keys: None, everything: true, count: true };
    assert_eq!(apply(&mut tenant, &command(command::Operation::DeleteRange(all))).deleted, 1);
    assert!(tenant.state().is_empty());
}

#[test]
fn a_batch_happens_as_a_whole_or_not_at_all() {
    let mut tenant = tenant();
    apply(&mut tenant, &put("from", "10"));
    let move_it = batch(
        vec![condition("from", value("10")), condition("to", Expected::Absent(true))],
        vec![delete("from"), put("to", "10")],
    );
    assert_eq!(apply(&mut tenant, &move_it), Reply { version: 2, deleted: 1 });
    let rejection = tenant.apply_rejected(&move_it.encode_to_vec());
    assert_eq!(rejection.code, "compare_failed");
    assert!(rejection.message.contains("condition 0"), "{}", rejection.message);
    assert_eq!(find(&mut tenant, "to").map(|record| record.version), Some(2));
    let bad_end = batch(vec![], vec![put("x", "1"), put("", "2")]);
    assert_eq!(tenant.apply_rejected(&bad_end.encode_to_vec()).code, "empty_key");
}

#[test]
fn every_refusal_of_a_malformed_command_has_its_code() {
    let mut tenant = tenant();
    let long = vec![b'k'; 4081];
    let no_condition = CompareAndSwap { condition: None, ..Default::default() };
    let mut no_expectation = condition("a", Expected::Version(1));
    no_expectation.expected = None;
    let empty_part = Batch { operations: vec![Operation::default()], ..Default::default() };
    let story: Vec<(&str, Vec<u8>)> = vec![
        ("malformed", b"\xff".into()),
        ("malformed", put("a", "1").encode_to_vec()[..3].into()),
        ("no_operation", Vec::new()),
        // A field of a newer version, alone.
        ("no_operation", b"\x7a\x00".into()),
        ("no_operation", command(command::Operation::Batch(empty_part)).encode_to_vec()),
        ("no_expectation", command(command::Operation::CompareAndSwap(no_condition)).encode_to_vec()),
        ("no_expectation", batch(vec![no_expectation], vec![]).encode_to_vec()),
        ("empty_key", put("", "1").encode_to_vec()),
        ("empty_key", put_if_absent("", "1", 0).encode_to_vec()),
        ("empty_key", swap("", value("1"), "1").encode_to_vec()),
        ("empty_key", delete("").encode_to_vec()),
        ("key_too_long", put(&long, "1").encode_to_vec()),
        ("key_too_long", batch(vec![], vec![delete(&long)]).encode_to_vec()),
        ("ttl_too_long", put_for("a", "1", u64::MAX).encode_to_vec()),
        ("ttl_too_long", put_if_absent("a", "1", 3_155_760_000_001).encode_to_vec()),
        ("unbounded_range", delete_range(KeyRange::default(), false).encode_to_vec()),
        ("unbounded_range", command(command::Operation::DeleteRange(DeleteRange::default())).encode_to_vec()),
    ];
    for (code, bytes) in story {
        let rejection = tenant.apply_rejected(&bytes);
        assert_eq!((rejection.kind, rejection.code.as_str()), (RejectionKind::Invalid, code), "{bytes:?}");
        assert_eq!(tenant.validate(&bytes), Err(Outcome::Rejected(rejection)));
    }
    for (code, request) in
        [("no_operation", Request::default()), ("empty_key", get("")), ("key_too_long", get(&long))]
    {
        assert!(
            matches!(tenant.query(&request.encode_to_vec()), Outcome::Rejected(rejection) if rejection.code == code)
        );
    }
}

#[test]
fn validate_leaves_to_apply_what_depends_on_the_state() {
    // A put of this key may be on its way, ahead of the swap.
    let mut tenant = tenant();
    assert_eq!(tenant.validate(&swap("a", value("1"), "2").encode_to_vec()), Ok(()));
}

#[test]
fn a_state_that_another_plugin_wrote_is_told_from_a_missing_key() {
    let mut tenant = tenant();
    let mut snapshot = b"MTS1\x02\0\0\0\x01\0\0\0ka?".to_vec();
    snapshot.extend_from_slice(b"\xff\xff\xff\xff\x01\0\0\0");
    tenant.restore(&snapshot).unwrap();
    let outcome = tenant.query(&get("a").encode_to_vec());
    assert!(matches!(outcome, Outcome::Rejected(rejection) if rejection.code == "unreadable_record"));
}

#[test]
fn a_count_that_would_read_too_much_is_refused() {
    let mut tenant = tenant();
    for key in 0..5u8 {
        apply(&mut tenant, &put([key], vec![0; 4 << 20]));
    }
    let rejection = tenant.apply_rejected(&delete_range(between([0], [9]), true).encode_to_vec());
    assert_eq!((rejection.kind, rejection.code.as_str()), (RejectionKind::Exhausted, "range_too_large"));
    apply(&mut tenant, &delete_range(between([0], [9]), false));
    assert!(tenant.state().is_empty());
}

#[test]
fn a_limit_of_the_profile_is_an_outcome_that_names_it() {
    let mut tenant = tenant().with_profile(Profile { value_bytes_max: 1024, ..Profile::default() });
    let outcome = tenant.apply(&put("a", vec![0; 2048]).encode_to_vec());
    assert_eq!(outcome, Outcome::Failed(Failure::LimitExceeded { limit: Limit::ValueBytes }));
    assert!(tenant.state().is_empty());
    apply(&mut tenant, &put("a", "1"));
}

#[test]
fn a_put_costs_the_same_whatever_is_there() {
    let mut tenant = tenant();
    apply(&mut tenant, &put("a", vec![0; 128]));
    let first = tenant.last_fuel();
    for key in 0..2000u32 {
        apply(&mut tenant, &put(key.to_be_bytes(), vec![0; 128]));
    }
    apply(&mut tenant, &put("a", vec![1; 128]));
    // The version in the reply takes a byte more by now.
    assert!(tenant.last_fuel().abs_diff(first) < 200, "a put reads what is there: {}", tenant.last_fuel());
    println!("fuel of one put of 128 bytes: {first}");
    assert!(first < 20_000, "a put took {first} fuel");
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let mut tenant = tenant();
    apply(&mut tenant, &put("a", "1"));
    apply(&mut tenant, &put_for("b", "2", 50));
    let (snapshot, before) = (tenant.snapshot().unwrap(), tenant.state_digest());
    for end in 0..snapshot.len() {
        assert!(tenant.restore(&snapshot[..end]).is_err(), "the first {end} bytes were taken for a snapshot");
    }
    assert!(tenant.restore(&[snapshot.as_slice(), b"x"].concat()).is_err());
    assert_eq!(tenant.state_digest(), before);
    assert_eq!(tenant.restore(&snapshot), Ok(()));
}

#[test]
fn the_component_conforms() {
    let component = mortise_artifacts::bytes("mortise-plugin-kv").unwrap();
    for seed in 1..=3 {
        let report = conformance(&component, seed).unwrap();
        assert_eq!(report.examples_applied, 1);
        assert!(report.garbage_rejected > 50, "{report:?}");
    }
}
