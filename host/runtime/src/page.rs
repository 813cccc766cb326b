//! Packs pairs into a page: for each pair its key's and its value's length (u32, little endian), key, value.

use mortise_core::outcome::Limit;
use mortise_core::state::{Direction, Pairs};

use crate::abi::Page;
use crate::failure::Stop;

/// Bytes of the two lengths before a pair.
const LENGTHS_BYTES: usize = 8;

/// Packs `pairs` into a page of at most `bytes_max` bytes, but of one pair at least where there is one. Also returns
/// how many bytes of keys and values that took, which may not be more than `read_bytes_left`.
pub(crate) fn pack(
    pairs: Pairs<'_>,
    direction: Direction,
    bytes_max: usize,
    read_bytes_left: u64,
) -> Result<(Page, usize), Stop> {
    let mut page = Page::default();
    let mut read = 0;
    let mut last = None;
    for pair in pairs {
        let (key, value) = pair?;
        let bytes = key.len() + value.len();
        if !page.pairs.is_empty() && page.pairs.len() + LENGTHS_BYTES + bytes > bytes_max {
            page.next = match direction {
                Direction::Ascending => Some(key.into()),
                Direction::Descending => last.map(Vec::from),
            };
            break;
        }
        read += bytes;
        if read as u64 > read_bytes_left {
            return Err(Stop::Limit(Limit::ReadBytes));
        }
        page.pairs.reserve(LENGTHS_BYTES + bytes);
        page.pairs.extend_from_slice(&length(key.len())?);
        page.pairs.extend_from_slice(&length(value.len())?);
        page.pairs.extend_from_slice(&key);
        page.pairs.extend_from_slice(&value);
        last = Some(key);
    }
    Ok((page, read))
}

fn length(bytes: usize) -> Result<[u8; 4], Stop> {
    // No profile allows a key or a value so long.
    u32::try_from(bytes).map(u32::to_le_bytes).map_err(|_| Stop::Limit(Limit::ReadBytes))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mortise_core::state::{KeyRange, MemoryState, StateReader};

    use super::*;

    fn state() -> MemoryState {
        (0..5u8).map(|n| (Bytes::from(vec![n]), Bytes::from(vec![n; 3]))).collect()
    }

    /// All keys, page by page.
    fn walk(direction: Direction, bytes_max: usize) -> Vec<Vec<u8>> {
        let state = state();
        let mut range = KeyRange::all();
        let mut pages = Vec::new();
        loop {
            let (page, _) = pack(state.scan(&range, direction), direction, bytes_max, u64::MAX).unwrap();
            pages.push(page.pairs.chunks(12).map(|pair| pair[8]).collect());
            match (page.next, direction) {
                (None, _) => return pages,
                (Some(next), Direction::Ascending) => range.start = next.into(),
                (Some(next), Direction::Descending) => range.end = Some(next.into()),
            }
        }
    }

    #[test]
    fn a_pair_is_two_lengths_a_key_and_a_value() {
        let state = MemoryState::from([("ab".into(), "xyz".into())]);
        let pairs = state.scan(&KeyRange::all(), Direction::Ascending);
        let (page, read) = pack(pairs, Direction::Ascending, 100, 5).unwrap();
        assert_eq!(page.pairs, b"\x02\0\0\0\x03\0\0\0abxyz");
        assert_eq!((page.next, read), (None, 5));
    }

    #[test]
    fn pages_cover_every_pair_once_in_both_directions() {
        assert_eq!(walk(Direction::Ascending, 24), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(walk(Direction::Descending, 24), [vec![4, 3], vec![2, 1], vec![0]]);
        assert_eq!(walk(Direction::Ascending, 60), [vec![0, 1, 2, 3, 4]]);
    }

    #[test]
    fn a_page_has_one_pair_however_small_it_must_be() {
        assert_eq!(walk(Direction::Ascending, 0).len(), 5);
        assert_eq!(walk(Direction::Descending, 0).len(), 5);
    }

    #[test]
    fn reading_past_the_limit_ends_the_call() {
        let state = state();
        let pairs = state.scan(&KeyRange::all(), Direction::Ascending);
        let result = pack(pairs, Direction::Ascending, 1000, 7);
        assert!(matches!(result, Err(Stop::Limit(Limit::ReadBytes))));
    }
}
