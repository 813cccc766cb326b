//! How far an instance may grow.

use mortise_core::outcome::Limit;
use mortise_core::profile::Profile;
use wasmtime::ResourceLimiter;

use crate::failure::{LocalFault, Stop};

/// How far an instance's memories and tables may grow, all of a kind together. Past it, growing fails with -1, as
/// WebAssembly has it, and [`refused`](Self::refused) says so.
#[derive(Debug)]
pub(crate) struct Growth {
    memory_bytes_max: u64,
    table_elements_max: u64,
    pub(crate) memory_bytes: u64,
    table_elements: u64,
    /// The limit at which the present call was last refused growth.
    pub(crate) refused: Option<Limit>,
}

impl Growth {
    pub(crate) fn new(limits: &Profile) -> Self {
        Self {
            memory_bytes_max: limits.memory_bytes_max.min(Profile::MEMORY_BYTES_CEILING),
            table_elements_max: limits.table_elements_max.min(Profile::TABLE_ELEMENTS_CEILING),
            memory_bytes: 0,
            table_elements: 0,
            refused: None,
        }
    }
}

impl ResourceLimiter for Growth {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current) as u64);
        if total > self.memory_bytes_max {
            self.refused = Some(Limit::Memory);
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
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
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.table_elements.saturating_add(desired.saturating_sub(current) as u64);
        if total > self.table_elements_max {
            self.refused = Some(Limit::Table);
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_grow_failed(error)
    }
}
