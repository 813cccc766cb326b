//! The conformance check finds what is wrong with plugins that are.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use mortise_artifacts::bad_guest;
use mortise_testkit::{Outcome, Tenant, conformance};

#[test]
fn a_plugin_that_breaks_the_contract_is_told_how() {
    let story = [
        ("core-module", "load the component"),
        ("wasi-clock", "wasi:clocks"),
        ("bad-manifest-name", "manifest"),
        ("trap-in-migrate", "create a tenant"),
        ("error-in-migrate", "create a tenant"),
        ("trap-in-apply", "example"),
        ("loop-in-apply", "fuel"),
        ("trap-in-query", "request"),
        ("trap-in-snapshot", "take a snapshot"),
        ("endless-snapshot", "longer than"),
        ("error-in-restore", "restore a snapshot"),
        ("unfaithful-snapshot", "not the one the snapshot was taken of"),
    ];
    for (name, expected) in story {
        let error = conformance(&bad_guest(name).unwrap(), 1).expect_err(name);
        let text = format!("{error:#}");
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn a_validate_that_refuses_what_apply_takes_is_found() {
    let error = conformance(&bad_guest("trap-in-validate").unwrap(), 1).unwrap_err();
    assert!(format!("{error:#}").contains("but apply does not"), "{error:#}");
}

#[test]
fn a_failed_command_leaves_the_rest_of_its_entry_alone() {
    let mut tenant = Tenant::load(&bad_guest("hostile").unwrap()).unwrap();
    let outcomes = tenant.apply_entry(&[b"put a 1", b"trap", b"put b 2"]);
    assert!(
        matches!(&outcomes[..], [Outcome::Applied(_), Outcome::Failed(_), Outcome::Applied(_)]),
        "{outcomes:?}"
    );
    assert_eq!(tenant.state().get(b"b".as_slice()).unwrap(), "2");
    tenant.assert_snapshot_roundtrip();
}

#[test]
fn fuel_and_memory_of_the_last_call_are_seen() {
    let mut tenant = Tenant::load(&bad_guest("hostile").unwrap()).unwrap();
    tenant.apply(b"ok");
    let (fuel, memory) = (tenant.last_fuel(), tenant.last_memory_bytes());
    assert!(fuel > 0 && memory > 0 && memory.is_multiple_of(64 << 10), "{fuel}, {memory}");
    tenant.apply(b"reply 3000000");
    assert!(tenant.last_memory_bytes() >= memory + 3_000_000, "{}", tenant.last_memory_bytes());
    tenant.query(b"reply 3000000");
    assert!(tenant.last_memory_bytes() >= memory + 3_000_000, "{}", tenant.last_memory_bytes());
    tenant.apply(b"eat-memory");
    assert!(tenant.last_memory_bytes() > 60 << 20, "{}", tenant.last_memory_bytes());
    tenant.apply(b"ok");
    assert_eq!((tenant.last_fuel(), tenant.last_memory_bytes()), (fuel, memory), "a fresh instance");
}
