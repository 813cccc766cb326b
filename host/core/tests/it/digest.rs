//! Digests: equal for equal things on every machine and in every release, different for different ones.

use bytes::Bytes;
use mortise_core::digest::{Context, Digest, EffectHasher, StateHasher, state_digest};
use mortise_core::ids::PluginDigest;
use mortise_core::layer::Layer;
use mortise_core::outcome::Outcome;
use mortise_core::state::{EmptyState, KeyRange, MemoryState};
use mortise_core::time::LogTime;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::{self, fixed, key, layer_of, number, value, write};

fn digest_of(pairs: &[(&str, &str)]) -> String {
    let state: MemoryState = pairs
        .iter()
        .map(|(key, value)| {
            (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
        })
        .collect();
    state_digest(&state).expect("a state in memory does not fail").digest.to_string()
}

/// The link of an entry of one command.
fn link(previous: Digest, context: &Context, outcome: &Outcome, effects: &Layer) -> Digest {
    let mut hasher = EffectHasher::new(previous);
    hasher.add(context, outcome, effects);
    hasher.finish()
}

/// Snapshots and `verify` compare them across releases.
#[test]
fn state_digests_are_what_they_always_were() {
    assert_eq!(digest_of(&[]), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    assert_eq!(digest_of(&[("", "")]), "e572dff82304700b856a555ac3a4558d0df3646a3727816500270a93c66aac1e");
    assert_eq!(
        digest_of(&[("a", "1"), ("b", "2")]),
        "b7950062754133e2d828409486e76ca70357fe59acc982edbedbfd39fe9881d4"
    );
}

/// A chain of them is compared between replicas, also while they run different releases.
#[test]
fn effect_digests_are_what_they_always_were() {
    let context = Context { sequence: 1, time: LogTime(1_700_000_000_000), principal: Some("ann".into()) };
    let mut effects = Layer::default();
    effects.delete_range(KeyRange { start: "a".into(), end: Some("c".into()) });
    effects.put("b".into(), "2".into());
    effects.delete("z".into());
    effects.set_due(Some(9));
    let first = link(Digest::default(), &context, &Outcome::Applied("ok".into()), &effects);
    assert_eq!(first.to_string(), "3e871a232f26bcc512f99cb84c1eb48f2f969156ecf0d7ba0ea4d98c9cf912bf");
    let nobody = Context { sequence: 2, principal: None, ..context };
    let second = link(first, &nobody, &Outcome::Applied(Bytes::new()), &Layer::default());
    assert_eq!(second.to_string(), "1a8869bb24bbf38f9e079a555eeb6b5be53737f4d0f2a9d9e2eacb2b02c5b65a");
}

#[test]
fn plugin_digests_are_what_they_always_were() {
    assert_eq!(
        PluginDigest::of(b"\0asm").to_string(),
        "003e6ee85b30b92152036efd974c9a3907c65635ec190c05a089b180a57dc03a"
    );
}

#[test]
fn a_state_digest_counts_pairs_and_bytes() {
    let state = MemoryState::from([("ab".into(), "c".into()), ("d".into(), Bytes::new())]);
    let digest = state_digest(&state).expect("a state in memory does not fail");
    assert_eq!((digest.pairs, digest.bytes), (2, 4));
    assert_eq!(state_digest(&EmptyState).expect("nothing to read"), StateHasher::default().finish());
}

fn context() -> impl Strategy<Value = Context> {
    (number(), number(), prop::option::of(generate::text())).prop_map(|(sequence, time, principal)| Context {
        sequence,
        time: LogTime(time),
        principal,
    })
}

proptest! {
    #![proptest_config(fixed(400))]

    #[test]
    fn states_have_equal_digests_if_and_only_if_they_are_equal(
        one in vec((key(), value()), 0..4),
        two in vec((key(), value()), 0..4),
    ) {
        let (one, two): (MemoryState, MemoryState) = (one.into_iter().collect(), two.into_iter().collect());
        let equal = state_digest(&one).expect("in memory") == state_digest(&two).expect("in memory");
        prop_assert_eq!(equal, one == two);
    }

    #[test]
    fn links_have_equal_digests_if_and_only_if_they_are_equal(
        one in (context(), generate::outcome(), vec(write(), 0..3)),
        two in (context(), generate::outcome(), vec(write(), 0..3)),
        keep in 0..8u8,
    ) {
        // What `keep` says is taken over from the other, so that links often differ in one part only.
        let pick = |bit: u8| keep & bit != 0;
        let context = if pick(1) { &one.0 } else { &two.0 };
        let outcome = if pick(2) { &one.1 } else { &two.1 };
        let writes = if pick(4) { &one.2 } else { &two.2 };
        let (layer, other) = (layer_of(&one.2), layer_of(writes));
        let equal = link(Digest::default(), &one.0, &one.1, &layer)
            == link(Digest::default(), context, outcome, &other);
        prop_assert_eq!(equal, one.0 == *context && one.1 == *outcome && layer == other);
    }
}
