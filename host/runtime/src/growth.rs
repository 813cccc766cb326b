//! How far an instance may grow.

use mortise_core::outcome::Limit;
use mortise_core::profile::Profile;
use wasmtime::ResourceLimiter;

use crate::failure::{LocalFault, Stop};

/// How far an instance's memories and tables may grow, all of a kind together. Past it, growing fails with -1, as
/// WebAssembly has it, and [`refused`](Self::refused) says so.
#[derive(Debug)]
pub(crate) struct Growth {
    /// In bytes.
    memory: Room,
    /// In elements.
    tables: Room,
    /// The limit at which the present call was last refused growth.
    pub(crate) refused: Option<Limit>,
}

#[derive(Debug)]
struct Room {
    limit: Limit,
    used: u64,
    max: u64,
}

impl Room {
    fn take(&mut self, more: u64, refused: &mut Option<Limit>) -> bool {
        let used = self.used.saturating_add(more);
        let fits = used <= self.max;
        if fits {
            self.used = used;
        } else {
            *refused = Some(self.limit);
        }
        fits
    }
}

impl Growth {
    pub(crate) fn new(limits: &Profile) -> Self {
        let memory_bytes_max = limits.memory_bytes_max.min(Profile::MEMORY_BYTES_CEILING);
        let table_elements_max = limits.table_elements_max.min(Profile::TABLE_ELEMENTS_CEILING);
        Self {
            memory: Room { limit: Limit::Memory, used: 0, max: memory_bytes_max },
            tables: Room { limit: Limit::Table, used: 0, max: table_elements_max },
            refused: None,
        }
    }

    /// Bytes of all memories.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.used
    }
}

/// By how much something is to grow; `None`: further than its own type allows.
fn more(current: usize, desired: usize, maximum: Option<usize>) -> Option<u64> {
    let within = maximum.is_none_or(|maximum| desired <= maximum);
    within.then(|| desired.saturating_sub(current) as u64)
}

impl ResourceLimiter for Growth {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = more(current, desired, maximum);
        Ok(more.is_some_and(|more| self.memory.take(more, &mut self.refused)))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // "Past the type's own limits" is a plain message; what the system says has a type.
        if error.is::<&'static str>() || error.is::<String>() {
            return Ok(());
        }
        Err(wasmtime::Error::new(Stop::Fault(LocalFault::Memory(error.into()))))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = more(current, desired, maximum);
        Ok(more.is_some_and(|more| self.tables.take(more, &mut self.refused)))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_grow_failed(error)
    }
}
