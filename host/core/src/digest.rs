//! Digests by which replicas, snapshots and `mortise verify` are compared. BLAKE3.

use crate::codec::Writer;
use crate::layer::Layer;
use crate::outcome::Outcome;
use crate::state::{Direction, KeyRange, StateError, StateReader};
use crate::time::LogTime;

/// A BLAKE3 digest.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What a call may know beside its input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The tenant's own count of commands.
    pub sequence: u64,
    /// Log time.
    pub time: LogTime,
    /// Who asked, as authenticated by the host.
    pub principal: Option<String>,
}

/// The next link of a tenant's chain of effect digests:
/// H(previous, context, outcome with reply, net effects in key order, next-due).
pub fn effect_digest(previous: Digest, context: &Context, outcome: &Outcome, effects: &Layer) -> Digest {
    let mut writer = Writer::with_capacity(256);
    writer.raw(&previous.0).count(context.sequence).count(context.time.0);
    writer.option_string(context.principal.as_deref());
    outcome.encode(&mut writer);
    match effects.due() {
        Some(due) => writer.u8(1).option_count(due),
        None => writer.u8(0),
    };
    effects.encode_effects(&mut writer);
    Digest(*blake3::hash(&writer.finish()).as_bytes())
}

/// The digest over a state: every pair in key order, with lengths. Equal digests mean equal states.
pub fn state_digest(state: &dyn StateReader) -> Result<StateDigest, StateError> {
    let mut hasher = StateHasher::default();
    for pair in state.scan(&KeyRange::all(), Direction::Ascending) {
        let (key, value) = pair?;
        hasher.add(&key, &value);
    }
    Ok(hasher.finish())
}

/// A state's digest and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateDigest {
    /// Digest over all pairs in key order.
    pub digest: Digest,
    /// How many pairs.
    pub pairs: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// Digests pairs given in key order.
#[derive(Default)]
pub struct StateHasher {
    hasher: blake3::Hasher,
    pairs: u64,
    bytes: u64,
}

impl StateHasher {
    /// The next pair.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.hasher.update(&(key.len() as u64).to_le_bytes());
        self.hasher.update(key);
        self.hasher.update(&(value.len() as u64).to_le_bytes());
        self.hasher.update(value);
        self.pairs += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }

    /// The digest of the pairs given.
    pub fn finish(&self) -> StateDigest {
        StateDigest {
            digest: Digest(*self.hasher.finalize().as_bytes()),
            pairs: self.pairs,
            bytes: self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::state::MemoryState;

    #[test]
    fn the_chain_depends_on_every_part() {
        let context = Context { sequence: 1, time: LogTime(5), principal: None };
        let outcome = Outcome::Applied(Bytes::new());
        let base = effect_digest(Digest::default(), &context, &outcome, &Layer::default());
        let mut effects = Layer::default();
        effects.put("k".into(), "v".into());
        let named = Context { principal: Some("ann".into()), ..context.clone() };
        let mut due = Layer::default();
        due.set_due(None);
        for other in [
            effect_digest(base, &context, &outcome, &Layer::default()),
            effect_digest(Digest::default(), &named, &outcome, &Layer::default()),
            effect_digest(Digest::default(), &context, &Outcome::Applied("r".into()), &Layer::default()),
            effect_digest(Digest::default(), &context, &outcome, &effects),
            effect_digest(Digest::default(), &context, &outcome, &due),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_byte_moved_from_key_to_value_changes_the_state_digest() {
        let one = MemoryState::from([("ab".into(), "c".into())]);
        let two = MemoryState::from([("a".into(), "bc".into())]);
        assert_ne!(state_digest(&one).unwrap().digest, state_digest(&two).unwrap().digest);
    }
}
