//! A tenant's state as the plugin's host sees it: an ordered map of byte strings, behind a trait that storage
//! implements and the runtime reads through.

use bytes::Bytes;

/// The keys from `start` up to, but without, `end`; `None`: to the last key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Bytes,
    /// The key before which the range ends.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self::default()
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        // The next prefix of that length; where all its bytes are the highest, nothing comes after them.
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                break;
            }
        }
        let start = Bytes::copy_from_slice(prefix);
        Self { start, end: (!end.is_empty()).then(|| end.into()) }
    }

    /// The keys that lie in both ranges.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let start = (&self.start).max(&other.start).clone();
        let end = match (&self.end, &other.end) {
            (Some(one), Some(two)) => Some(one.min(two).clone()),
            (one, two) => one.as_ref().or(two.as_ref()).cloned(),
        };
        Self { start, end }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref() <= key && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end <= &self.start)
    }
}

/// The order of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// The state could not be read: a local fault, never an outcome. The replica stops.
#[derive(Debug, thiserror::Error)]
#[error("read state: {0}")]
pub struct StateError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What a scan yields, in its order.
pub type Pairs<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StateError>> + 'a>;

/// Read access to one installation of a tenant's state. What it shows does not change while a caller holds it, or
/// changes only by what that caller itself commits.
pub trait StateReader: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError>;

    /// The pairs of `range` in the order of `direction`.
    fn scan(&self, range: &KeyRange, direction: Direction) -> Pairs<'_>;
}

/// A state without keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyState;

impl StateReader for EmptyState {
    fn get(&self, _key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(None)
    }

    fn scan(&self, _range: &KeyRange, _direction: Direction) -> Pairs<'_> {
        Box::new(std::iter::empty())
    }
}

/// A state in memory, for tests and for scratch work that is known to be small.
pub type MemoryState = std::collections::BTreeMap<Bytes, Bytes>;

impl StateReader for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(std::collections::BTreeMap::get(self, key).cloned())
    }

    fn scan(&self, range: &KeyRange, direction: Direction) -> Pairs<'_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let end = match &range.end {
            Some(end) => std::ops::Bound::Excluded(end.clone()),
            None => std::ops::Bound::Unbounded,
        };
        let pairs = self
            .range((std::ops::Bound::Included(range.start.clone()), end))
            .map(|(key, value)| Ok((key.clone(), value.clone())));
        match direction {
            Direction::Ascending => Box::new(pairs),
            Direction::Descending => Box::new(pairs.rev()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &[u8], end: Option<&[u8]>) -> KeyRange {
        KeyRange { start: Bytes::copy_from_slice(start), end: end.map(Bytes::copy_from_slice) }
    }

    #[test]
    fn a_prefix_ends_behind_its_highest_bytes() {
        assert_eq!(KeyRange::prefix(&[1, 2]).end.unwrap(), [1, 3].as_slice());
        assert_eq!(KeyRange::prefix(&[1, 0xff, 0xff]).end.unwrap(), [2].as_slice());
        assert_eq!(KeyRange::prefix(&[0xff, 0xff]).end, None);
        assert_eq!(KeyRange::prefix(&[]), KeyRange::all());
    }

    #[test]
    fn an_intersection_has_the_keys_of_both() {
        let b = KeyRange::prefix(b"b");
        assert_eq!(KeyRange::all().intersect(&b), b);
        assert_eq!(b.intersect(&range(b"a", Some(b"bb"))), range(b"b", Some(b"bb")));
        assert_eq!(b.intersect(&range(b"bb", None)), range(b"bb", Some(b"c")));
        assert!(b.intersect(&KeyRange::prefix(b"a")).is_empty());
    }
}
