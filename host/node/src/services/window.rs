//! How much of a write stream is unanswered.

use std::collections::VecDeque;

/// Counts the writes and bytes of a stream that are not answered yet.
///
/// Writes are counted exactly. Of bytes, an answer gives back those of the oldest unanswered write, whichever write
/// it answers: answers come nearly in the log's order, so this is nearly exact, needs no lookup, and
/// agrees with the truth whenever all is answered. The bound over all streams, which the replica keeps, is exact.
#[derive(Debug)]
pub(super) struct Window {
    writes_max: usize,
    bytes_max: usize,
    writes: usize,
    bytes: usize,
    /// Per message, oldest first: unanswered writes, and their bytes. Never empty of writes.
    messages: VecDeque<(usize, usize)>,
}

impl Window {
    pub(super) fn new(writes_max: usize, bytes_max: usize) -> Self {
        Self { writes_max, bytes_max, writes: 0, bytes: 0, messages: VecDeque::new() }
    }

    /// Whether another message may be taken in. One message may pass the bounds: it is bounded itself.
    pub(super) fn is_open(&self) -> bool {
        self.writes < self.writes_max && self.bytes < self.bytes_max
    }

    /// Whether all is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.writes == 0
    }

    /// A message with so many writes and bytes was taken in.
    pub(super) fn taken(&mut self, writes: usize, bytes: usize) {
        if writes > 0 {
            self.writes += writes;
            self.bytes += bytes;
            self.messages.push_back((writes, bytes));
        }
    }

    /// So many writes were answered.
    pub(super) fn answered(&mut self, mut writes: usize) {
        while writes > 0 {
            let Some((left, bytes)) = self.messages.front_mut() else { return };
            let answered = writes.min(*left);
            // All of a message's writes count as equally large.
            let freed = *bytes / *left * answered + if answered == *left { *bytes % *left } else { 0 };
            *left -= answered;
            *bytes -= freed;
            self.writes -= answered;
            self.bytes -= freed;
            writes -= answered;
            if *left == 0 {
                self.messages.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_closes_at_either_bound_and_opens_again() {
        let mut window = Window::new(4, 100);
        window.taken(3, 10);
        assert!(window.is_open());
        window.taken(2, 10);
        assert!(!window.is_open());
        window.answered(2);
        assert!(window.is_open());
        window.taken(1, 200);
        assert!(!window.is_open());
        window.answered(4);
        assert!(window.is_open() && window.is_empty());
        assert_eq!((window.bytes, window.messages.len()), (0, 0));
    }

    #[test]
    fn all_bytes_come_back_however_the_answers_are_split() {
        let mut window = Window::new(usize::MAX, usize::MAX);
        for (writes, bytes) in [(3, 10), (0, 0), (7, 3), (1, 0), (5, 1_000_003)] {
            window.taken(writes, bytes);
        }
        for answered in [1, 4, 2, 2, 3, 1, 3] {
            assert!(!window.is_empty());
            window.answered(answered);
        }
        assert!(window.is_empty());
        assert_eq!((window.writes, window.bytes), (0, 0));
        window.answered(1);
        assert_eq!(window.writes, 0);
    }
}
