//! Keys that go by themselves, in the compiled plugin.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use mortise_commands::kv::condition::Expected;
use mortise_commands::kv::{Response, response};
use mortise_testkit::{Outcome, Tenant};
use prost::Message;
use support::*;

fn tenant() -> Tenant {
    Tenant::build("mortise-plugin-kv").unwrap()
}

fn apply(tenant: &mut Tenant, command: &mortise_commands::kv::Command) {
    let outcome = tenant.apply(&command.encode_to_vec());
    assert!(outcome.took_effect(), "{command:?}: {outcome:?}");
}

fn expires(tenant: &mut Tenant, key: &str) -> Option<u64> {
    let Outcome::Applied(bytes) = tenant.query(&get(key).encode_to_vec()) else { panic!("the query failed") };
    match Response::decode(bytes).unwrap().result {
        Some(response::Result::Get(get)) => get.record.map(|record| record.expires_ms),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_goes_on_an_idle_tenant() {
    let mut tenant = tenant();
    let start = tenant.time_ms();
    apply(&mut tenant, &put_for("a", "1", 100));
    apply(&mut tenant, &put("b", "2"));
    assert_eq!(tenant.due(), Some(start + 100));
    assert_eq!(expires(&mut tenant, "a"), Some(start + 100));
    tenant.after(99);
    assert_eq!((tenant.expire(), expires(&mut tenant, "a").is_some()), (false, true));
    tenant.after(1);
    // Gone for readers at once, and from the state when the host calls.
    assert_eq!(expires(&mut tenant, "a"), None);
    assert_eq!(tenant.state().len(), 3);
    assert_eq!(tenant.expire_all(), 1);
    assert_eq!((tenant.state().len(), tenant.due()), (1, None));
    assert_eq!(expires(&mut tenant, "b"), Some(0));
}

#[test]
fn the_first_of_several_deadlines_counts() {
    let mut tenant = tenant();
    let start = tenant.time_ms();
    for (key, ttl) in [("b", 200), ("a", 100), ("c", 300)] {
        apply(&mut tenant, &put_for(key, "1", ttl));
    }
    assert_eq!(tenant.due(), Some(start + 100));
    tenant.after(250);
    assert_eq!(tenant.expire_all(), 1);
    assert_eq!(tenant.due(), Some(start + 300));
    assert_eq!(tenant.state().len(), 2);
}

#[test]
fn a_later_write_outlives_the_deadline_of_an_earlier_one() {
    let mut tenant = tenant();
    apply(&mut tenant, &put_for("kept", "1", 100));
    apply(&mut tenant, &put("kept", "2"));
    apply(&mut tenant, &put_for("longer", "1", 100));
    apply(&mut tenant, &put_for("longer", "2", 500));
    apply(&mut tenant, &put_for("removed", "1", 100));
    apply(&mut tenant, &delete("removed"));
    tenant.after(100).expire_all();
    assert_eq!(expires(&mut tenant, "kept"), Some(0));
    assert!(expires(&mut tenant, "longer").is_some());
    tenant.after(400).expire_all();
    assert_eq!(expires(&mut tenant, "longer"), None);
    assert_eq!((tenant.state().len(), tenant.due()), (1, None));
}

#[test]
fn a_dead_key_counts_as_absent_before_it_is_removed() {
    let mut tenant = tenant();
    apply(&mut tenant, &put_for("a", "1", 100));
    tenant.after(100);
    assert_eq!(tenant.apply_rejected(&swap("a", value("1"), "2").encode_to_vec()).code, "compare_failed");
    apply(&mut tenant, &swap("a", Expected::Absent(true), "3"));
    tenant.expire_all();
    assert_eq!(expires(&mut tenant, "a"), Some(0));
}

#[test]
fn many_keys_that_expire_at_once_take_several_bounded_calls() {
    let mut tenant = tenant();
    let puts: Vec<_> = (0..1000u32).map(|key| put_for(key.to_be_bytes(), "1", 100).encode_to_vec()).collect();
    let commands: Vec<&[u8]> = puts.iter().map(Vec::as_slice).collect();
    assert!(tenant.apply_entry(&commands).iter().all(Outcome::took_effect));
    tenant.after(100);
    assert_eq!(tenant.expire_all(), 4);
    assert!(tenant.state().is_empty());
}

#[test]
fn large_values_that_expire_at_once_stay_within_the_limit_for_reads() {
    let mut tenant = tenant();
    for key in 0..20u8 {
        apply(&mut tenant, &put_for([key], vec![0; 4 << 20], 100));
    }
    tenant.after(100);
    assert!(tenant.expire_all() > 1);
    assert!(tenant.state().is_empty());
}

#[test]
fn a_restored_tenant_knows_when_its_keys_expire() {
    let mut source = tenant();
    apply(&mut source, &put_for("a", "1", 100));
    let (snapshot, due) = (source.snapshot().unwrap(), source.due());
    assert!(due.is_some());
    let mut other = tenant();
    other.restore(&snapshot).unwrap();
    assert_eq!(other.due(), due);
    other.after(100).expire_all();
    assert!(other.state().is_empty());
}
