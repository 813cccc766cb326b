//! Ranges of keys.

use std::ops::{Range, RangeFrom, RangeFull};

/// The keys from `start` up to, but without, `end`; no `end`: to the last key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Vec<u8>,
    /// The key before which the range ends.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self::default()
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        Self { start, end }
    }

    /// The keys that lie in both ranges.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        let end = match (self.end, other.end) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Self { start: self.start.max(other.start), end }
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_ref().is_none_or(|end| key < end.as_slice())
    }
}

impl<K: Into<Vec<u8>>> From<Range<K>> for KeyRange {
    fn from(range: Range<K>) -> Self {
        Self { start: range.start.into(), end: Some(range.end.into()) }
    }
}

impl<K: Into<Vec<u8>>> From<RangeFrom<K>> for KeyRange {
    fn from(range: RangeFrom<K>) -> Self {
        Self { start: range.start.into(), end: None }
    }
}

impl From<RangeFull> for KeyRange {
    fn from(_: RangeFull) -> Self {
        Self::all()
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

/// The first key after all that begin with `prefix`; none where there is no such key.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_key_that_does_not_begin_with_it() {
        assert_eq!(KeyRange::prefix(*b"a"), KeyRange::from(*b"a"..*b"b"));
        assert_eq!(KeyRange::prefix([1, 255]), KeyRange::from([1, 255].to_vec()..[2].to_vec()));
        assert_eq!(KeyRange::prefix([255, 255]), KeyRange::from([255, 255]..));
        assert_eq!(KeyRange::prefix([]), KeyRange::all());
    }

    #[test]
    fn an_intersection_holds_what_both_hold() {
        let both = KeyRange::from(*b"b"..*b"f").intersect(KeyRange::from(*b"a"..*b"d"));
        assert_eq!(both, KeyRange::from(*b"b"..*b"d"));
        assert!(both.contains(b"c") && !both.contains(b"d"));
        assert!(KeyRange::from(*b"a"..*b"b").intersect(KeyRange::from(*b"c"..)).is_empty());
    }
}
