//! Numbers drawn by the test framework, read as choices. Zeros choose what is plain, so that failures shrink to it.

/// Numbers for one event. What more is wanted is zero.
pub(crate) const CHOICES: usize = 40;

pub(crate) struct Dice<'a> {
    choices: std::slice::Iter<'a, u64>,
}

impl<'a> Dice<'a> {
    pub(crate) fn new(choices: &'a [u64]) -> Self {
        Self { choices: choices.iter() }
    }

    pub(crate) fn any(&mut self) -> u64 {
        self.choices.next().copied().unwrap_or_default()
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.any() % end
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == times - 1
    }

    pub(crate) fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize].clone()
    }

    /// A number around one that matters, or far from it.
    pub(crate) fn near(&mut self, number: u64) -> u64 {
        let any = self.any();
        match self.below(10) {
            0..=3 => number,
            4 => number.wrapping_add(1),
            5 => number.wrapping_sub(1),
            6 => any % 4,
            7 => number.saturating_sub(any % 4),
            8 => u64::MAX - any % 2,
            _ => any,
        }
    }

    /// Nearly always this number.
    pub(crate) fn mostly(&mut self, number: u64) -> u64 {
        if self.once_in(16) { self.near(number) } else { number }
    }
}
