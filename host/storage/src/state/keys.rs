//! How keys are made, and which ones a range of a plugin's keys covers.

use std::ops::Bound;

use mortise_core::ids::{Installation, TenantId};
use mortise_core::state::KeyRange;

use super::StateId;

/// fjall counts a key's bytes in 16 bits, and panics on a longer one, also in a bound of a range.
const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// The kinds of keys, each by its first byte.
const KINDS: [u8; 3] = [EFFECTS, META, STATE];
const EFFECTS: u8 = b'e';
const META: u8 = b'm';
const STATE: u8 = b's';
const STATE_PREFIX_BYTES: usize = 1 + 3 * 8;
/// Most bytes of a plugin's key.
pub(super) const STATE_KEY_BYTES_MAX: usize = KEY_BYTES_MAX - STATE_PREFIX_BYTES;
/// fjall counts a value's bytes in 32 bits.
pub(super) const VALUE_BYTES_MAX: usize = u32::MAX as usize;

/// From where to where a scan of whole keys goes.
pub(super) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// What a group of keys begins with. Its first byte is a letter, so there is always a key after all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    bytes: [u8; STATE_PREFIX_BYTES],
    length: usize,
}

impl Prefix {
    /// The keys of one installation of one tenant.
    pub(super) fn state(state: StateId, installation: Installation, tenant: TenantId) -> Self {
        Self::of(STATE, &[state.0, installation.0, tenant.0])
    }

    /// The node's own keys.
    pub(super) fn meta(state: StateId) -> Self {
        Self::of(META, &[state.0])
    }

    /// The kept effects.
    pub(super) fn effects(state: StateId) -> Self {
        Self::of(EFFECTS, &[state.0])
    }

    /// All prefixes that a state's keys begin with.
    pub(super) fn all_of(state: StateId) -> [Self; 3] {
        KINDS.map(|kind| Self::of(kind, &[state.0]))
    }

    /// What the keys of all states begin with, by kind.
    pub(super) fn kinds() -> [Self; 3] {
        KINDS.map(|kind| Self::of(kind, &[]))
    }

    /// The state of a key that begins with one of [`kinds`](Self::kinds).
    pub(super) fn state_of(&self, key: &[u8]) -> Option<StateId> {
        let number = key.get(self.length..self.length + 8)?;
        Some(StateId(u64::from_be_bytes(number.try_into().ok()?)))
    }

    fn of(kind: u8, numbers: &[u64]) -> Self {
        let mut prefix = Self { bytes: [0; STATE_PREFIX_BYTES], length: 1 };
        prefix.bytes[0] = kind;
        for number in numbers {
            prefix.bytes[prefix.length..prefix.length + 8].copy_from_slice(&number.to_be_bytes());
            prefix.length += 8;
        }
        prefix
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Most bytes that a key may have after this prefix.
    pub(super) fn key_bytes_max(&self) -> usize {
        KEY_BYTES_MAX - self.length
    }

    /// The whole key; `None` where it would be too long to be stored.
    pub(super) fn key(&self, key: &[u8]) -> Option<Vec<u8>> {
        (key.len() <= self.key_bytes_max()).then(|| self.join(key))
    }

    fn join(&self, key: &[u8]) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.length + key.len());
        whole.extend_from_slice(self.as_bytes());
        whole.extend_from_slice(key);
        whole
    }

    /// The whole keys that `range` covers; `None` where it covers none.
    ///
    /// A bound may be longer than any key can be. It is then cut: of the keys that can be stored, those from such a
    /// start on are the ones after its cut form, and those below such an end are the ones up to its cut form.
    pub(super) fn bounds(&self, range: &KeyRange) -> Option<Bounds> {
        if range.is_empty() {
            return None;
        }
        let max = self.key_bytes_max();
        let start = match range.start.get(..max) {
            Some(cut) if range.start.len() > max => Bound::Excluded(self.join(cut)),
            _ => Bound::Included(self.join(&range.start)),
        };
        let end = match &range.end {
            // A letter is not the highest byte: there is a key after all of them.
            None => match KeyRange::prefix(self.as_bytes()).end {
                Some(end) => Bound::Excluded(end.to_vec()),
                None => Bound::Unbounded,
            },
            Some(end) => match end.get(..max) {
                Some(cut) if end.len() > max => Bound::Included(self.join(cut)),
                _ => Bound::Excluded(self.join(end)),
            },
        };
        let covers = match (&start, &end) {
            (Bound::Included(start), Bound::Included(end)) => start <= end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start < end,
            _ => true,
        };
        covers.then_some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_longer_than_any_key_is_cut_to_the_same_keys() {
        let prefix = Prefix::meta(StateId(1));
        let long = vec![7; prefix.key_bytes_max() + 1];
        let cut = prefix.join(&long[..prefix.key_bytes_max()]);
        let from = KeyRange { start: long.clone().into(), end: None };
        assert_eq!(prefix.bounds(&from).unwrap().0, Bound::Excluded(cut.clone()));
        let to = KeyRange { start: Default::default(), end: Some(long.clone().into()) };
        assert_eq!(prefix.bounds(&to).unwrap().1, Bound::Included(cut));
        let mut longer = long.clone();
        longer.push(1);
        let between = KeyRange { start: long.into(), end: Some(longer.into()) };
        assert_eq!(prefix.bounds(&between), None);
    }
}
