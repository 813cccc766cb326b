//! What a plugin sees and writes while an entry is applied.
//!
//! ```text
//!   reads ─▶ command layer ─▶ entry layer ─▶ state as of the previous entry
//!            (this command)   (the entry's earlier commands)
//! ```
//! A command that succeeds has its layer absorbed into the entry's; one that does not has it cleared. When the
//! entry is done, its layer goes to storage in one batch.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;

use crate::layer::Layer;
use crate::state::{Direction, KeyRange, Pairs, StateError, StateReader};

/// What one step of a scan counts for beside the bytes of its pair: finding the next key costs about as much as
/// reading this many bytes.
pub const STEP_BYTES: u64 = 64;

/// Layers over a state.
pub struct Overlay {
    base: Arc<dyn StateReader>,
    entry: Layer,
    command: Layer,
}

impl Overlay {
    /// Nothing written over `base`.
    pub fn new(base: Arc<dyn StateReader>) -> Self {
        Self { base, entry: Layer::default(), command: Layer::default() }
    }

    /// The present command's writes so far.
    pub fn command(&self) -> &Layer {
        &self.command
    }

    /// The present command's writes so far, to add to.
    pub fn command_mut(&mut self) -> &mut Layer {
        &mut self.command
    }

    /// Keeps the present command's writes.
    pub fn accept(&mut self) {
        self.entry.absorb(&mut self.command);
    }

    /// Forgets the present command's writes.
    pub fn discard(&mut self) {
        self.command.clear();
    }

    /// What the entry wrote, without a command that was neither accepted nor discarded.
    pub fn into_layer(self) -> Layer {
        self.entry
    }

    /// As [`StateReader::scan`]. Adds to `bytes` what the scan goes through, also where it yields nothing: for each
    /// pair of the state below its bytes, and [`STEP_BYTES`] for that and for each write of the layers. Depends on
    /// nothing but the state and the entry, so fuel may be charged by it.
    pub fn scan_counted<'a>(
        &'a self,
        range: &KeyRange,
        direction: Direction,
        bytes: &'a Cell<u64>,
    ) -> Pairs<'a> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let base: Pairs<'a> = Box::new(self.base.scan(range, direction).inspect(move |pair| {
            let pair_bytes = pair.as_ref().map_or(0, |(key, value)| key.len() + value.len());
            bytes.set(bytes.get().saturating_add(pair_bytes as u64 + STEP_BYTES));
        }));
        let entry = self.entry.over(base, range, direction, Some(bytes));
        self.command.over(entry, range, direction, Some(bytes))
    }

    /// Takes what the entry wrote so far, and goes on over `base`, which must already show it. For bulk work
    /// (`restore`, `migrate`) whose writes must not gather in memory.
    pub fn rebase(&mut self, base: Arc<dyn StateReader>) -> Layer {
        self.base = base;
        std::mem::take(&mut self.entry)
    }
}

impl StateReader for Overlay {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        if let Some(value) = self.command.get(key).or_else(|| self.entry.get(key)) {
            return Ok(value.cloned());
        }
        self.base.get(key)
    }

    fn scan(&self, range: &KeyRange, direction: Direction) -> Pairs<'_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let base = self.base.scan(range, direction);
        self.command.over(self.entry.over(base, range, direction, None), range, direction, None)
    }
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay").field("entry", &self.entry).field("command", &self.command).finish()
    }
}
