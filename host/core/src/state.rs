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
