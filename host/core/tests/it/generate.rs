//! What the tests draw their cases from.

use bytes::Bytes;
use mortise_core::layer::{Effect, Layer};
use mortise_core::outcome::{Failure, Limit, Outcome, Rejection, RejectionKind};
use mortise_core::profile::Profile;
use mortise_core::state::{Direction, KeyRange};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::Ascending, Direction::Descending];

/// `cases` cases that are the same in each run.
pub(crate) fn fixed(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_240_229),
        ..ProptestConfig::default()
    }
}

/// Few and short keys, so that they meet: the empty one, neighbours, and the ends of the alphabet.
pub(crate) fn key() -> impl Strategy<Value = Bytes> {
    vec(prop::sample::select(vec![0u8, b'a', b'b', 0xff]), 0..3).prop_map(Bytes::from)
}

pub(crate) fn value() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..3).prop_map(Bytes::from)
}

/// Also empty, reversed and endless ones.
pub(crate) fn range() -> impl Strategy<Value = KeyRange> {
    (key(), prop::option::weighted(0.8, key())).prop_map(|(start, end)| KeyRange { start, end })
}

pub(crate) fn bytes(length_max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..length_max).prop_map(Bytes::from)
}

/// Numbers of every length in bytes.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..200u64, (any::<u64>(), 0..64u32).prop_map(|(n, by)| n >> by)]
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..6).prop_map(String::from_iter)
}

pub(crate) fn outcome() -> impl Strategy<Value = Outcome> {
    let kind = prop::sample::select(vec![
        RejectionKind::Invalid,
        RejectionKind::Conflict,
        RejectionKind::Missing,
        RejectionKind::Denied,
        RejectionKind::Exhausted,
        RejectionKind::Unsupported,
    ]);
    let rejection = (kind, text(), text());
    prop_oneof![
        bytes(6).prop_map(Outcome::Applied),
        rejection.prop_map(|(kind, code, message)| Outcome::Rejected(Rejection { kind, code, message })),
        text().prop_map(|reason| Outcome::Failed(Failure::Trapped { reason })),
        prop::sample::select(vec![Limit::Fuel, Limit::Stack, Limit::ReplyBytes])
            .prop_map(|limit| Outcome::Failed(Failure::LimitExceeded { limit })),
    ]
}

/// Any numbers, also those that [`Profile::check`] refuses.
pub(crate) fn profile() -> impl Strategy<Value = Profile> {
    prop::array::uniform14(number()).prop_map(|n| Profile {
        version: n[0],
        fuel: n[1],
        fuel_bulk: n[2],
        fuel_host_call: n[3],
        fuel_host_16_bytes: n[4],
        memory_bytes_max: n[5],
        table_elements_max: n[6],
        stack_bytes_max: n[7],
        key_bytes_max: n[8],
        value_bytes_max: n[9],
        write_bytes_max: n[10],
        read_bytes_max: n[11],
        reply_bytes_max: n[12],
        session_ttl_ms_max: n[13],
    })
}

/// A write to a layer, as a plugin makes it.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put(Bytes, Bytes),
    Delete(Bytes),
    DeleteRange(KeyRange),
    Due(Option<u64>),
}

pub(crate) fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| Write::Put(key, value)),
        3 => key().prop_map(Write::Delete),
        3 => range().prop_map(Write::DeleteRange),
        1 => prop::option::of(0..9u64).prop_map(Write::Due),
    ]
}

impl Write {
    pub(crate) fn to(&self, layer: &mut Layer) {
        match self.clone() {
            Self::Put(key, value) => layer.put(key, value),
            Self::Delete(key) => layer.delete(key),
            Self::DeleteRange(range) => layer.delete_range(range),
            Self::Due(due) => layer.set_due(due),
        }
    }

    /// The write as an effect; none for `next-due`, which is no key.
    pub(crate) fn effect(&self) -> Option<Effect> {
        match self.clone() {
            Self::Put(key, value) => Some(Effect::Put(key, value)),
            Self::Delete(key) => Some(Effect::Delete(key)),
            Self::DeleteRange(range) => Some(Effect::DeleteRange(range)),
            Self::Due(_) => None,
        }
    }
}

pub(crate) fn layer_of(writes: &[Write]) -> Layer {
    let mut layer = Layer::default();
    writes.iter().for_each(|write| write.to(&mut layer));
    layer
}
