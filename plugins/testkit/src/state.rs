//! A tenant's state in memory, and how the runtime's writes reach it.

use std::sync::Arc;

use mortise_core::layer::Layer;
use mortise_core::state::{MemoryState, StateError, StateReader};
use mortise_runtime::BulkTarget;

/// Carries out the writes of an entry.
pub(crate) fn absorb(state: &mut MemoryState, layer: &Layer) {
    for range in layer.ranges() {
        state.retain(|key, _| !range.contains(key));
    }
    for (key, value) in layer.points() {
        match value {
            Some(value) => state.insert(key.clone(), value.clone()),
            None => state.remove(key),
        };
    }
}

/// Where `restore` and `migrate` write.
#[derive(Default)]
pub(crate) struct Target(pub(crate) Arc<MemoryState>);

impl BulkTarget for Target {
    fn reader(&self) -> Result<Arc<dyn StateReader>, StateError> {
        Ok(self.0.clone())
    }

    fn flush(&mut self, layer: Layer) -> Result<(), StateError> {
        absorb(Arc::make_mut(&mut self.0), &layer);
        Ok(())
    }
}
