//! Scans: iterators over packed pages, fetched one by one.

use std::rc::Rc;

use serde::de::DeserializeOwned;

use crate::state::read_json;
use crate::{Direction, KeyRange, Rejection, View};

/// The first page is small, for scans that look at one pair; every further one is twice as large.
const PAGE_BYTES_FIRST: u32 = 4 << 10;
/// Beyond this a larger page saves nothing, and read-ahead that nobody looks at counts against the call's limit.
const PAGE_BYTES_MAX: u32 = 256 << 10;

/// The pairs of a range, in order. Made by [`View::scan`] and [`View::prefix`].
///
/// It borrows the state, so a transaction cannot be written to while one lives: collect first, then write.
pub struct Scan<'a> {
    view: &'a View<'a>,
    /// What is left after the present page; `None`: nothing.
    rest: Option<KeyRange>,
    direction: Direction,
    page_bytes: u32,
    page: Rc<Vec<u8>>,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(view: &'a View<'_>, range: KeyRange) -> Self {
        let rest = (!range.is_empty()).then_some(range);
        let direction = Direction::Ascending;
        Self { view, rest, direction, page_bytes: PAGE_BYTES_FIRST, page: Rc::default(), at: 0 }
    }

    /// The first pair of a scan, in a page of its own.
    pub(crate) fn one(view: &View<'_>, range: KeyRange, direction: Direction) -> Option<Pair> {
        let mut scan = Scan::new(view, range).direction(direction);
        scan.page_bytes = 1;
        scan.next()
    }

    /// Goes from the largest key to the smallest. Call it before the first pair is taken.
    #[must_use]
    pub fn descending(self) -> Self {
        self.direction(Direction::Descending)
    }

    /// Goes in `direction`. Call it before the first pair is taken.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    fn fetch(&mut self) -> Option<()> {
        let mut range = self.rest.take()?;
        let (pairs, next) = self.view.page(&range, self.direction, self.page_bytes);
        self.page_bytes = (self.page_bytes * 2).min(PAGE_BYTES_MAX);
        if let Some(next) = next {
            match self.direction {
                Direction::Ascending => range.start = next,
                Direction::Descending => range.end = Some(next),
            }
            self.rest = Some(range);
        }
        self.page = Rc::new(pairs);
        self.at = 0;
        Some(())
    }
}

impl Iterator for Scan<'_> {
    type Item = Pair;

    fn next(&mut self) -> Option<Pair> {
        while self.at >= self.page.len() {
            self.fetch()?;
        }
        let key = self.at + 8;
        let value = key + length_at(&self.page, self.at);
        let end = value + length_at(&self.page, self.at + 4);
        self.at = end;
        Some(Pair { page: Rc::clone(&self.page), key, value, end })
    }
}

/// A key and its value, lying in the page they came in: taking one copies nothing.
#[derive(Clone)]
pub struct Pair {
    page: Rc<Vec<u8>>,
    key: usize,
    value: usize,
    end: usize,
}

impl Pair {
    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.page[self.key..self.value]
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.page[self.value..self.end]
    }

    /// The value, read as JSON.
    ///
    /// # Errors
    /// `unreadable_record`: it is no `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Rejection> {
        read_json(self.value())
    }

    /// A copy of key and value.
    pub fn to_owned(&self) -> (Vec<u8>, Vec<u8>) {
        (self.key().to_vec(), self.value().to_vec())
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("key", &self.key()).field("value", &self.value()).finish()
    }
}

fn length_at(page: &[u8], at: usize) -> usize {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    fn filled(count: u32, value_bytes: usize) -> Memory {
        let mut memory = Memory::new();
        let mut tx = memory.transaction();
        for n in 0..count {
            tx.put(&n.to_be_bytes(), &vec![n as u8; value_bytes]);
        }
        memory
    }

    #[test]
    fn a_scan_over_many_pages_yields_each_pair_once_in_both_directions() {
        // Around 4 KiB, where the first page ends, up to several pages.
        for count in [0, 1, 35, 36, 37, 38, 39, 40, 5000] {
            let memory = filled(count, 100);
            let view = memory.view();
            let keys: Vec<_> = view.scan(..).map(|pair| pair.key().to_vec()).collect();
            let expected: Vec<_> = (0..count).map(|n| n.to_be_bytes().to_vec()).collect();
            assert_eq!(keys, expected);
            let mut back: Vec<_> = view.scan(..).descending().map(|pair| pair.key().to_vec()).collect();
            back.reverse();
            assert_eq!(back, expected);
        }
    }

    #[test]
    fn a_pair_larger_than_a_page_comes_alone() {
        let memory = filled(3, 1 << 20);
        let sizes: Vec<_> = memory.view().scan(..).map(|pair| pair.value().len()).collect();
        assert_eq!(sizes, [1 << 20; 3]);
    }

    #[test]
    fn a_scan_keeps_to_its_range() {
        let memory = filled(1000, 50);
        let view = memory.view();
        let range = || 10u32.to_be_bytes()..990u32.to_be_bytes();
        assert_eq!(view.scan(range()).count(), 980);
        let first = view.scan(range()).descending().next().unwrap();
        assert_eq!((first.key(), first.value()[0]), (989u32.to_be_bytes().as_slice(), 989u32 as u8));
        assert_eq!(view.prefix([0, 0, 1]).count(), 256);
        assert_eq!(view.first(range()).unwrap().key(), 10u32.to_be_bytes());
        assert_eq!(view.last(range()).unwrap().key(), 989u32.to_be_bytes());
        assert_eq!(view.scan([5]..[4]).count(), 0);
    }

    #[test]
    fn a_scan_that_looks_at_one_pair_fetches_one_small_page() {
        let memory = filled(5000, 100);
        let view = memory.view();
        let mut scan = view.scan(..);
        assert!(scan.next().is_some());
        assert!(scan.page.len() <= PAGE_BYTES_FIRST as usize);
    }
}
