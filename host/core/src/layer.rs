//! The net writes of a command or of an entry: points over range deletes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, Writer};
use crate::overlay::STEP_BYTES;
use crate::state::{Direction, KeyRange, Pairs, StateError};

/// One net write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The key has this value.
    Put(Bytes, Bytes),
    /// The key is gone.
    Delete(Bytes),
    /// The keys of the range are gone, but for those put after it.
    DeleteRange(KeyRange),
}

impl Effect {
    /// Appends the effect.
    pub fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Put(key, value) => encode_put(key, value, writer),
            Self::Delete(key) => encode_delete(key, writer),
            Self::DeleteRange(range) => encode_range(range, writer),
        }
    }

    /// Reads an effect.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.u8("effect")? {
            0 => Self::Put(reader.bytes("key")?, reader.bytes("value")?),
            1 => Self::Delete(reader.bytes("key")?),
            2 => Self::DeleteRange(KeyRange {
                start: reader.bytes("range start")?,
                end: Some(reader.bytes("range end")?),
            }),
            3 => Self::DeleteRange(KeyRange { start: reader.bytes("range start")?, end: None }),
            value => return Err(DecodeError::Unknown { what: "effect", value: value.into() }),
        })
    }
}

fn encode_put(key: &[u8], value: &[u8], writer: &mut Writer) {
    writer.u8(0).bytes(key).bytes(value);
}

fn encode_delete(key: &[u8], writer: &mut Writer) {
    writer.u8(1).bytes(key);
}

fn encode_range(KeyRange { start, end }: &KeyRange, writer: &mut Writer) {
    match end {
        Some(end) => writer.u8(2).bytes(start).bytes(end),
        None => writer.u8(3).bytes(start),
    };
}

/// A part of a layer, where it stands.
enum Step<'a> {
    Range(&'a KeyRange),
    Point(&'a Bytes, Option<&'a Bytes>),
}

/// Net writes over some state below.
///
/// Invariants: ranges are not empty, do not overlap and do not touch; no point is a delete of a key that a range of
/// this layer already covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Range deletes by their start. They come before the points.
    ranges: BTreeMap<Bytes, KeyRange>,
    /// What became of single keys; `None`: deleted.
    points: BTreeMap<Bytes, Option<Bytes>>,
    /// What `next-due` was set to, where it was.
    due: Option<Option<u64>>,
}

impl Layer {
    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.points.is_empty() && self.due.is_none()
    }

    /// The range deletes, in key order. They are carried out before the [points](Self::points).
    pub fn ranges(&self) -> impl Iterator<Item = &KeyRange> {
        self.ranges.values()
    }

    /// Single keys in order, with their values; `None`: deleted.
    pub fn points(&self) -> impl Iterator<Item = (&Bytes, &Option<Bytes>)> {
        self.points.iter()
    }

    /// What `next-due` was set to, where it was.
    pub fn due(&self) -> Option<Option<u64>> {
        self.due
    }

    /// Sets the key.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.points.insert(key, Some(value));
    }

    /// Deletes the key.
    pub fn delete(&mut self, key: Bytes) {
        if self.covers(&key) {
            self.points.remove(&key);
        } else {
            self.points.insert(key, None);
        }
    }

    /// Deletes every key of the range.
    pub fn delete_range(&mut self, mut range: KeyRange) {
        if range.is_empty() {
            return;
        }
        let covered: Vec<Bytes> = in_range(&self.points, &range).map(|(key, _)| key.clone()).collect();
        for key in covered {
            self.points.remove(&key);
        }
        while let Some(start) = self.touching(&range) {
            let Some(other) = self.ranges.remove(&start) else { break };
            range.start = range.start.min(other.start);
            range.end = match (range.end, other.end) {
                (Some(one), Some(two)) => Some(one.max(two)),
                _ => None,
            };
        }
        self.ranges.insert(range.start.clone(), range);
    }

    /// Sets when `expire` is next called.
    pub fn set_due(&mut self, due: Option<u64>) {
        self.due = Some(due);
    }

    /// What this layer says of the key: `None` where it says nothing.
    pub fn get(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        match self.points.get(key) {
            Some(value) => Some(value.as_ref()),
            None if self.covers(key) => Some(None),
            None => None,
        }
    }

    /// Moves `upper`'s writes onto this layer and leaves it empty.
    pub fn absorb(&mut self, upper: &mut Layer) {
        for (_, range) in std::mem::take(&mut upper.ranges) {
            self.delete_range(range);
        }
        // Popping keeps the emptied map's node, so that the next command's writes need no new one.
        while let Some((key, value)) = upper.points.pop_first() {
            match value {
                Some(value) => self.put(key, value),
                None => self.delete(key),
            }
        }
        if let Some(due) = upper.due.take() {
            self.due = Some(due);
        }
    }

    /// Forgets every write.
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.points.clear();
        self.due = None;
    }

    /// The net writes in key order; a range delete comes at its start, before a put of the same key.
    pub fn effects(&self) -> impl Iterator<Item = Effect> {
        self.in_order().map(|step| match step {
            Step::Range(range) => Effect::DeleteRange(range.clone()),
            Step::Point(key, Some(value)) => Effect::Put(key.clone(), value.clone()),
            Step::Point(key, None) => Effect::Delete(key.clone()),
        })
    }

    /// Appends the [`effects`](Self::effects), each as [`Effect::encode`] has it, without copying them first.
    pub fn encode_effects(&self, writer: &mut Writer) {
        for step in self.in_order() {
            match step {
                Step::Range(range) => encode_range(range, writer),
                Step::Point(key, Some(value)) => encode_put(key, value, writer),
                Step::Point(key, None) => encode_delete(key, writer),
            }
        }
    }

    fn in_order(&self) -> impl Iterator<Item = Step<'_>> {
        let mut ranges = self.ranges.values().peekable();
        let mut points = self.points.iter().peekable();
        std::iter::from_fn(move || {
            if let Some(range) =
                ranges.next_if(|range| points.peek().is_none_or(|(key, _)| range.start <= **key))
            {
                return Some(Step::Range(range));
            }
            points.next().map(|(key, value)| Step::Point(key, value.as_ref()))
        })
    }

    /// `lower`, a scan of `range`, as this layer leaves it. Each of this layer's points that the scan goes through,
    /// deletes too, adds [`STEP_BYTES`](crate::overlay::STEP_BYTES) to `count`.
    pub fn over<'a>(
        &'a self,
        lower: Pairs<'a>,
        range: &KeyRange,
        direction: Direction,
        count: Option<&'a Cell<u64>>,
    ) -> Pairs<'a> {
        if self.ranges.is_empty() && self.points.is_empty() {
            return lower;
        }
        let lower: Pairs<'a> = if self.ranges.is_empty() {
            lower
        } else {
            Box::new(lower.filter(|pair| !matches!(pair, Ok((key, _)) if self.covers(key))))
        };
        let points: Points<'a> = match direction {
            Direction::Ascending => Box::new(in_range(&self.points, range)),
            Direction::Descending => Box::new(in_range(&self.points, range).rev()),
        };
        let points: Points<'a> = match count {
            Some(count) => {
                Box::new(points.inspect(move |_| count.set(count.get().saturating_add(STEP_BYTES))))
            }
            None => points,
        };
        Box::new(Merge { lower: lower.peekable(), points: points.peekable(), direction })
    }

    fn covers(&self, key: &[u8]) -> bool {
        let below = (Bound::Unbounded, Bound::Included(key));
        self.ranges.range::<[u8], _>(below).next_back().is_some_and(|(_, range)| range.contains(key))
    }

    /// The start of a range that overlaps or touches `range`.
    fn touching(&self, range: &KeyRange) -> Option<Bytes> {
        let upper = match &range.end {
            Some(end) => Bound::Included(end.clone()),
            None => Bound::Unbounded,
        };
        let (start, last) = self.ranges.range((Bound::Unbounded, upper)).next_back()?;
        last.end.as_ref().is_none_or(|end| *end >= range.start).then(|| start.clone())
    }
}

fn in_range<'a>(
    points: &'a BTreeMap<Bytes, Option<Bytes>>,
    range: &KeyRange,
) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Option<Bytes>)> + use<'a> {
    let end = match &range.end {
        // An end before the start would make `BTreeMap::range` panic.
        Some(end) => Bound::Excluded(end.clone().max(range.start.clone())),
        None => Bound::Unbounded,
    };
    points.range((Bound::Included(range.start.clone()), end))
}

/// Points of a layer, in the order of a scan.
type Points<'a> = Box<dyn Iterator<Item = (&'a Bytes, &'a Option<Bytes>)> + 'a>;

struct Merge<'a> {
    lower: Peekable<Pairs<'a>>,
    points: Peekable<Points<'a>>,
    direction: Direction,
}

impl Iterator for Merge<'_> {
    type Item = Result<(Bytes, Bytes), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.lower.peek(), self.points.peek()) {
                (Some(Ok((below, _))), Some((above, _))) => match self.direction {
                    Direction::Ascending => below.cmp(above),
                    Direction::Descending => below.cmp(above).reverse(),
                },
                (None, Some(_)) => std::cmp::Ordering::Greater,
                _ => std::cmp::Ordering::Less,
            };
            if order.is_lt() {
                return self.lower.next();
            }
            if order.is_eq() {
                self.lower.next();
            }
            if let Some((key, Some(value))) = self.points.next() {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    }
}
