//! Digests by which replicas, snapshots and `mortise verify` are compared. BLAKE3.

use crate::codec::Writer;
use crate::entry::Entry;
use crate::ids::TenantId;
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

/// Bytes that are hashed at once. BLAKE3 hashes many of its chunks of 1 KiB in the time of one.
const HASH_BYTES: usize = 64 << 10;
/// What is allocated at first: enough for an entry of one small command.
const BUFFER_BYTES: usize = 512;
/// Stands behind a command's effects. None begins with it.
const END_OF_EFFECTS: u8 = 0xff;

/// The next link of a tenant's chain of effect digests: H(previous, then for each command of one entry its context,
/// outcome with reply, next-due, net effects in key order).
///
/// One link an entry rather than a command, because a hash over many commands at once costs a tenth of as many small
/// ones, and replicas compare entries anyway: those are the same everywhere.
pub struct EffectHasher {
    hasher: blake3::Hasher,
    buffer: Writer,
}

impl EffectHasher {
    /// A link behind `previous`.
    pub fn new(previous: Digest) -> Self {
        let mut buffer = Writer::with_capacity(BUFFER_BYTES);
        buffer.raw(&previous.0);
        Self { hasher: blake3::Hasher::new(), buffer }
    }

    /// Adds what became of the entry's next command.
    pub fn add(&mut self, context: &Context, outcome: &Outcome, effects: &Layer) {
        let writer = &mut self.buffer;
        writer.count(context.sequence).count(context.time.0);
        writer.option_string(context.principal.as_deref());
        outcome.encode(writer);
        match effects.due() {
            Some(due) => writer.u8(1).option_count(due),
            None => writer.u8(0),
        };
        effects.encode_effects(writer);
        writer.u8(END_OF_EFFECTS);
        if self.buffer.written().len() >= HASH_BYTES {
            self.hasher.update(self.buffer.written());
            self.buffer.clear();
        }
    }

    /// The link.
    pub fn finish(mut self) -> Digest {
        self.hasher.update(self.buffer.written());
        Digest(*self.hasher.finalize().as_bytes())
    }
}

/// The next link of a group's chain of effect digests: H(previous, position, time, whether the entry was refused, the
/// chains of the tenants it changed, in the order of their first commands).
pub fn entry_digest(
    previous: Digest,
    entry: &Entry,
    refused: bool,
    changed: &[(TenantId, Digest)],
) -> Digest {
    let mut writer = Writer::with_capacity(96 + 40 * changed.len());
    writer.raw(&previous.0).u64(entry.epoch.0).u64(entry.index.0).u64(entry.time.0).bool(refused);
    for (tenant, digest) in changed {
        writer.u64(tenant.0).raw(&digest.0);
    }
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

    fn link(previous: Digest, commands: &[(&Context, &Outcome, &Layer)]) -> Digest {
        let mut hasher = EffectHasher::new(previous);
        commands.iter().for_each(|(context, outcome, effects)| hasher.add(context, outcome, effects));
        hasher.finish()
    }

    #[test]
    fn the_chain_depends_on_every_part() {
        let context = Context { sequence: 1, time: LogTime(5), principal: None };
        let (outcome, nothing) = (Outcome::Applied(Bytes::new()), Layer::default());
        let base = link(Digest::default(), &[(&context, &outcome, &nothing)]);
        let mut effects = Layer::default();
        effects.put("k".into(), "v".into());
        let named = Context { principal: Some("ann".into()), ..context.clone() };
        let mut due = Layer::default();
        due.set_due(None);
        for other in [
            link(base, &[(&context, &outcome, &nothing)]),
            link(Digest::default(), &[]),
            link(Digest::default(), &[(&named, &outcome, &nothing)]),
            link(Digest::default(), &[(&context, &Outcome::Applied("r".into()), &nothing)]),
            link(Digest::default(), &[(&context, &outcome, &effects)]),
            link(Digest::default(), &[(&context, &outcome, &due)]),
            link(Digest::default(), &[(&context, &outcome, &nothing), (&context, &outcome, &nothing)]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_link_of_many_commands_does_not_depend_on_how_they_are_buffered() {
        let mut effects = Layer::default();
        effects.put("k".into(), vec![7; HASH_BYTES / 3].into());
        let context = Context { sequence: 1, time: LogTime(5), principal: None };
        let outcome = Outcome::Applied(Bytes::new());
        let mut all = Writer::default();
        all.raw(&Digest::default().0);
        let mut hasher = EffectHasher::new(Digest::default());
        for _ in 0..10 {
            hasher.add(&context, &outcome, &effects);
            all.count(1).count(5).option_string(None);
            outcome.encode(&mut all);
            all.u8(0);
            effects.encode_effects(&mut all);
            all.u8(END_OF_EFFECTS);
        }
        assert_eq!(hasher.finish().0, *blake3::hash(all.written()).as_bytes());
    }

    #[test]
    fn a_byte_moved_from_key_to_value_changes_the_state_digest() {
        let one = MemoryState::from([("ab".into(), "c".into())]);
        let two = MemoryState::from([("a".into(), "bc".into())]);
        assert_ne!(state_digest(&one).unwrap().digest, state_digest(&two).unwrap().digest);
    }
}
