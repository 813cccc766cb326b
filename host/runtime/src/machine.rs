//! The runtime: wasmtime's engines, and components made ready on them.
//!
//! A profile's stack size is fixed when an engine is made, so there is one engine for each stack size in use: usually
//! one, two while a change of the profile is under way. Compiled code is the same for all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mortise_core::profile::Profile;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use crate::cache::{Cache, CacheError};
use crate::compile::Compiler;
use crate::config::{self, RuntimeOptions};
use crate::failure::LocalFault;
use crate::guest::Guest;
use crate::host;
use crate::load::{self, LoadError, LoadLimits};
use crate::plugin::Plugin;

/// The version of wasmtime in use, which it does not tell itself. A test compares it with Cargo.lock.
const WASMTIME_VERSION: &str = "48.0.8";

/// What every plugin exports.
pub(crate) const EXPORTS: [&str; 8] =
    ["describe", "validate", "apply", "query", "expire", "snapshot", "restore", "migrate"];

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The compile cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// wasmtime refuses its configuration, or the system gives it no address space.
    #[error("start wasmtime: {0}")]
    Wasmtime(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Loads plugins and lends them the machine. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    options: RuntimeOptions,
    cache: Option<Cache>,
    compiler: Arc<Compiler>,
    /// The machine for the built-in profile's stack.
    base: Arc<Machine>,
    others: Mutex<BTreeMap<usize, Weak<Machine>>>,
}

impl Runtime {
    /// A runtime. It reserves address space for its pool of instances, and opens the compile cache.
    pub fn new(options: RuntimeOptions) -> Result<Self, RuntimeError> {
        let cache = options.cache.as_deref().map(Cache::open).transpose()?;
        let base = Machine::new(&options, stack_bytes(&Profile::default()));
        let base = Arc::new(base.map_err(|error| RuntimeError::Wasmtime(error.into()))?);
        let (compiler, others) = (Arc::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { options, cache, compiler, base, others }) })
    }

    /// Checks `component`, compiles it or takes it from the cache, makes an instance under the built-in profile and
    /// reads the manifest. Takes up to twice [`RuntimeOptions::compile_time_max`]: not for a request's thread.
    pub fn load(&self, component: &[u8]) -> Result<Plugin, LoadError> {
        let RuntimeOptions { component_bytes_max, compile_time_max, .. } = *self.options();
        load::load(self, component, &LoadLimits { component_bytes_max, compile_time_max })
    }

    /// The same for a component that was accepted before: one in the log, the state or a snapshot. The limits of
    /// [`RuntimeOptions`] are this machine's own and for uploads: here they would make replicas differ.
    pub fn load_accepted(&self, component: &[u8]) -> Result<Plugin, LoadError> {
        load::load(
            self,
            component,
            &LoadLimits { component_bytes_max: usize::MAX, compile_time_max: Duration::MAX },
        )
    }

    /// What plugins' outcomes depend on beside the profile: wasmtime's version, and the processor architecture,
    /// since native stack frames differ. A replica group is bound to one.
    pub fn identity() -> String {
        format!("wasmtime {} {}", WASMTIME_VERSION, std::env::consts::ARCH)
    }

    pub(crate) fn options(&self) -> &RuntimeOptions {
        &self.inner.options
    }

    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.inner.cache.as_ref()
    }

    pub(crate) fn compiler(&self) -> &Arc<Compiler> {
        &self.inner.compiler
    }

    pub(crate) fn base(&self) -> &Arc<Machine> {
        &self.inner.base
    }

    /// The machine for guests with this stack.
    pub(crate) fn machine(&self, stack_bytes: usize) -> Result<Arc<Machine>, LocalFault> {
        if stack_bytes == self.inner.base.stack_bytes {
            return Ok(self.inner.base.clone());
        }
        let mut others = self.inner.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|_, machine| machine.strong_count() > 0);
        if let Some(machine) = others.get(&stack_bytes).and_then(Weak::upgrade) {
            return Ok(machine);
        }
        let machine = Machine::new(&self.inner.options, stack_bytes);
        let machine = Arc::new(machine.map_err(|error| LocalFault::Instantiate(error.into()))?);
        others.insert(stack_bytes, Arc::downgrade(&machine));
        Ok(machine)
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

/// A profile's stack, within what threads have room for.
pub(crate) fn stack_bytes(limits: &Profile) -> usize {
    limits.stack_bytes_max.min(Profile::STACK_BYTES_CEILING) as usize
}

/// One of wasmtime's engines with the host functions linked.
pub(crate) struct Machine {
    engine: wasmtime::Engine,
    linker: Linker<Guest>,
    stack_bytes: usize,
    pool_instances: u32,
}

impl Machine {
    fn new(options: &RuntimeOptions, stack_bytes: usize) -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(&config::config(options, stack_bytes))?;
        let mut linker = Linker::new(&engine);
        host::link(&mut linker)?;
        Ok(Self { engine, linker, stack_bytes, pool_instances: options.pool_instances })
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// Takes back what [`Component::serialize`] gave for an engine of equal compatibility hash. wasmtime checks its
    /// own version and settings, but not that the bytes are its own.
    pub(crate) fn deserialize(&self, serialized: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: the bytes come from `Component::serialize`, either directly or by way of the compile cache. The
        // cache hands out only what matches its checksum, and only from a folder that nobody else can write to.
        #[allow(unsafe_code)]
        unsafe {
            Component::deserialize(&self.engine, serialized)
        }
    }
}

/// A component linked on a machine.
pub(crate) struct Mounted {
    machine: Arc<Machine>,
    component: Component,
    pre: InstancePre<Guest>,
    exports: [Option<ComponentExportIndex>; EXPORTS.len()],
}

impl Mounted {
    /// Links `component`, which was compiled for `machine`. Fails where an import has a wrong type.
    pub(crate) fn new(machine: Arc<Machine>, component: Component) -> wasmtime::Result<Self> {
        let pre = machine.linker.instantiate_pre(&component)?;
        let exports = EXPORTS.map(|name| component.get_export_index(None, name));
        Ok(Self { machine, component, pre, exports })
    }

    pub(crate) fn component(&self) -> &Component {
        &self.component
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        &self.machine.engine
    }

    pub(crate) fn pre(&self) -> &InstancePre<Guest> {
        &self.pre
    }

    pub(crate) fn pool_instances(&self) -> u32 {
        self.machine.pool_instances
    }

    pub(crate) fn export(&self, name: &str) -> Option<&ComponentExportIndex> {
        let at = EXPORTS.iter().position(|export| *export == name)?;
        self.exports.get(at)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_names_the_wasmtime_that_is_built_in() {
        let lock = include_str!("../../../Cargo.lock");
        let entry = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"");
        assert!(lock.contains(&entry), "WASMTIME_VERSION is not what Cargo.lock has");
        assert!(Runtime::identity().starts_with("wasmtime 48."));
    }
}
