//! Every limit of the profile, passed on purpose.

use std::sync::Arc;

use bytes::Bytes;
use mortise_core::outcome::Limit;
use mortise_core::profile::Profile;
use mortise_core::state::MemoryState;

use crate::support::*;

#[test]
fn each_limit_has_its_own_failure() {
    let default = Profile::default();
    let story: [(Profile, &str, Limit); 13] = [
        (default.clone(), "loop", Limit::Fuel),
        (default.clone(), "flood-host", Limit::Fuel),
        (Profile { read_bytes_max: u64::MAX, ..default.clone() }, "scan-forever", Limit::Fuel),
        (default.clone(), "eat-memory", Limit::Memory),
        (default.clone(), "reply-gigabyte", Limit::Memory),
        (default.clone(), "put-big-key", Limit::KeyBytes),
        (default.clone(), "put-big", Limit::ValueBytes),
        (default.clone(), "flood-puts", Limit::WriteBytes),
        (Profile { read_bytes_max: 1024, ..default.clone() }, "scan-forever", Limit::ReadBytes),
        (default.clone(), "get-many-big", Limit::ReadBytes),
        (Profile { reply_bytes_max: 1023, ..default.clone() }, "reply 1024", Limit::ReplyBytes),
        (Profile { key_bytes_max: 2, ..default.clone() }, "get abc", Limit::KeyBytes),
        (Profile { read_bytes_max: 4, ..default.clone() }, "get big", Limit::ReadBytes),
    ];
    for (limits, command, limit) in story {
        let state = state(&[("big", "12345"), ("key", "value")]);
        assert_eq!(outcome(&limits, state, command), exceeded(limit), "{command}");
    }
}

#[test]
fn what_stays_just_within_a_limit_takes_effect() {
    let default = Profile::default();
    for (limits, command) in [
        (Profile { reply_bytes_max: 1024, ..default.clone() }, "reply 1024"),
        (Profile { key_bytes_max: 3, ..default.clone() }, "get abc"),
        (Profile { read_bytes_max: 5, ..default.clone() }, "get big"),
        (Profile { value_bytes_max: 4096, write_bytes_max: 4099, ..default.clone() }, "put-big 4096"),
        (default.clone(), "put-empty-key"),
    ] {
        let outcome = outcome(&limits, state(&[("big", "12345")]), command);
        assert!(outcome.took_effect(), "{command}: {outcome:?}");
    }
}

#[test]
fn a_gigabyte_page_is_asked_for_and_a_bounded_one_comes() {
    let pairs = (0..3000u32).map(|n| (Bytes::from(n.to_be_bytes().to_vec()), Bytes::from(vec![7; 1000])));
    let state: Arc<MemoryState> = Arc::new(pairs.collect());
    let expected = 3000 * (8 + 4 + 1000);
    assert_eq!(outcome(&Profile::default(), state, "scan-all"), replied(&expected.to_string()));
}

#[test]
fn host_calls_cost_fuel_by_number_and_by_bytes() {
    let fuel = |limits: Profile, command: &str| {
        let state = state(&[("key", &"v".repeat(1600))]);
        entry(&hostile(), &Arc::new(limits), state, &[command]).0[0].fuel
    };
    let base = Profile { fuel_host_call: 1, fuel_host_16_bytes: 1, ..Profile::default() };
    let calls = Profile { fuel_host_call: 1001, ..base.clone() };
    let bytes = Profile { fuel_host_16_bytes: 11, ..base.clone() };
    assert_eq!(fuel(calls, "get key") - fuel(base.clone(), "get key"), 1000);
    // One unit for the key, a hundred for the value.
    assert_eq!(fuel(bytes, "get key") - fuel(base.clone(), "get key"), 10 * 101);
    assert_eq!(fuel(base.clone(), "ok"), fuel(base, "ok"));
}

#[test]
fn guest_and_host_fuel_together_may_not_pass_the_limit() {
    let limits = Profile { fuel_host_call: 1_000_000, ..Profile::default() };
    let used = entry(&hostile(), &Arc::new(limits.clone()), empty(), &["get key"]).0[0].fuel;
    assert!(used > 1_000_000);
    let tight = Profile { fuel: used, ..limits.clone() };
    assert!(outcome(&tight, empty(), "get key").took_effect());
    let short = Profile { fuel: used - 1, ..limits };
    assert_eq!(outcome(&short, empty(), "get key"), exceeded(Limit::Fuel));
}
