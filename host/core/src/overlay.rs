//! What a plugin sees and writes while an entry is applied.
//!
//! ```text
//!   reads ─▶ command layer ─▶ entry layer ─▶ state as of the previous entry
//!            (this command)   (the entry's earlier commands)
//! ```
//! A command that succeeds has its layer absorbed into the entry's; one that does not has it cleared. When the
//! entry is done, its layer goes to storage in one batch.

use std::sync::Arc;

use bytes::Bytes;

use crate::layer::Layer;
use crate::state::{Direction, KeyRange, Pairs, StateError, StateReader};

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
        self.command.over(self.entry.over(base, range, direction), range, direction)
    }
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay").field("entry", &self.entry).field("command", &self.command).finish()
    }
}
