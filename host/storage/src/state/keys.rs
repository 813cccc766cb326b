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
/// Most bytes of a number in a key.
const NUMBER_BYTES_MAX: usize = 1 + 8;
/// Numbers below this are one byte of a key: all that there are in most folders, and the database compares, copies and
/// caches short keys faster. A larger number is its bytes, big endian, after one that says how many they are.
const LARGE: u8 = 248;
const PREFIX_BYTES_MAX: usize = 1 + 3 * NUMBER_BYTES_MAX;
/// Most bytes of a key after its prefix, whatever that is: replicas may keep the same in states of other numbers.
pub(super) const OWN_KEY_BYTES_MAX: usize = KEY_BYTES_MAX - PREFIX_BYTES_MAX;
/// fjall counts a value's bytes in 32 bits.
pub(super) const VALUE_BYTES_MAX: usize = u32::MAX as usize;

/// From where to where a scan of whole keys goes.
pub(super) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// What a group of keys begins with. Its first byte is a letter, so there is always a key after all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    bytes: [u8; PREFIX_BYTES_MAX],
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
        let first = *key.get(self.length)?;
        let Some(more) = first.checked_sub(LARGE) else { return Some(StateId(first.into())) };
        let bytes = key.get(self.length + 1..)?.get(..usize::from(more) + 1)?;
        Some(StateId(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))))
    }

    /// Where, behind one of [`kinds`](Self::kinds), the keys of this state and those after it begin.
    pub(super) fn start_of(state: StateId) -> Vec<u8> {
        Self::meta(state).as_bytes()[1..].to_vec()
    }

    fn of(kind: u8, numbers: &[u64]) -> Self {
        let mut prefix = Self { bytes: [0; PREFIX_BYTES_MAX], length: 0 };
        prefix.push(&[kind]);
        for number in numbers {
            let bytes = number.to_be_bytes();
            match u8::try_from(*number) {
                Ok(small) if small < LARGE => prefix.push(&[small]),
                _ => {
                    let zeros = (number.leading_zeros() / 8) as usize;
                    prefix.push(&[LARGE + (7 - zeros) as u8]);
                    prefix.push(&bytes[zeros..]);
                }
            }
        }
        prefix
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The whole key; `None` where it would be too long to be stored.
    pub(super) fn key(&self, key: &[u8]) -> Option<Vec<u8>> {
        (key.len() <= OWN_KEY_BYTES_MAX).then(|| self.join(key))
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
        let max = OWN_KEY_BYTES_MAX;
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
    fn numbers_in_keys_keep_their_order_and_none_begins_another() {
        let edges = (0..64).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits]);
        let mut numbers: Vec<u64> = edges.chain([246, 247, 248, 249, u64::MAX]).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let prefixes: Vec<Prefix> = numbers.iter().map(|number| Prefix::meta(StateId(*number))).collect();
        for pair in prefixes.windows(2) {
            assert!(pair[0].as_bytes() < pair[1].as_bytes());
            assert!(!pair[1].as_bytes().starts_with(pair[0].as_bytes()));
        }
        let [_, meta, _] = Prefix::kinds();
        for (number, prefix) in numbers.iter().zip(&prefixes) {
            assert_eq!(meta.state_of(prefix.as_bytes()), Some(StateId(*number)));
            assert_eq!(meta.state_of(&prefix.join(b"key")), Some(StateId(*number)));
        }
        assert_eq!(prefixes[1].len(), 2);
        let most = Prefix::state(StateId(u64::MAX), Installation(u64::MAX), TenantId(u64::MAX));
        assert_eq!(most.len(), PREFIX_BYTES_MAX);
        assert_eq!(meta.state_of(b"m"), None);
        assert_eq!(meta.state_of(&[META, LARGE + 1, 7]), None);
    }

    #[test]
    fn a_bound_longer_than_any_key_is_cut_to_the_same_keys() {
        let prefix = Prefix::meta(StateId(1));
        let long = vec![7; OWN_KEY_BYTES_MAX + 1];
        let cut = prefix.join(&long[..OWN_KEY_BYTES_MAX]);
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
