//! A loaded plugin, and what can be made of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use mortise_core::digest::Context;
use mortise_core::ids::PluginDigest;
use mortise_core::outcome::Failure;
use mortise_core::overlay::Overlay;
use mortise_core::profile::Profile;

use crate::abi;
use crate::applier::Applier;
use crate::bulk::{self, Answer, Break, BulkDone, BulkFailure, BulkTarget, Request, StreamError};
use crate::caller::Caller;
use crate::failure::LocalFault;
use crate::instance::Instance;
use crate::machine::{Mounted, Runtime, stack_bytes};
use crate::manifest::Manifest;

/// Gives a snapshot's bytes, part by part.
type Source<'a> = &'a mut dyn FnMut(usize) -> Result<Option<Bytes>, StreamError>;

/// A plugin that passed every check of [`Runtime::load`]. Cheap to clone.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Runtime,
    digest: PluginDigest,
    manifest: Manifest,
    component_bytes_len: usize,
    compile_time: Duration,
    from_cache: bool,
    base: Arc<Mounted>,
    /// For profiles with another stack, while somebody uses them.
    others: Mutex<BTreeMap<usize, Weak<Mounted>>>,
}

impl Plugin {
    pub(crate) fn new(
        runtime: Runtime,
        digest: PluginDigest,
        manifest: Manifest,
        component_bytes_len: usize,
        compile_time: Duration,
        from_cache: bool,
        base: Arc<Mounted>,
    ) -> Self {
        let others = Mutex::default();
        let inner =
            Inner { runtime, digest, manifest, component_bytes_len, compile_time, from_cache, base, others };
        Self { inner: Arc::new(inner) }
    }

    /// The digest of its component.
    pub fn digest(&self) -> PluginDigest {
        self.inner.digest
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Bytes of its component.
    pub fn component_bytes_len(&self) -> usize {
        self.inner.component_bytes_len
    }

    /// How long it took to compile it, or to take it from the cache.
    pub fn compile_time(&self) -> Duration {
        self.inner.compile_time
    }

    /// Whether it came from the compile cache.
    pub fn from_cache(&self) -> bool {
        self.inner.from_cache
    }

    /// For the writes of one tenant.
    pub fn applier(&self, limits: &Arc<Profile>) -> Applier {
        Applier::new(self.clone(), limits.clone())
    }

    /// For the reads of one tenant: its instance is used again and again, so never share it between tenants.
    pub fn reader(&self, limits: &Arc<Profile>) -> Caller {
        Caller::new(self.clone(), limits.clone())
    }

    /// Makes in `target`, which must be empty, the state that a snapshot holds. `source` is asked for the
    /// next so many bytes; it may give fewer or more, and `None` at the snapshot's end.
    pub fn restore(
        &self,
        limits: &Arc<Profile>,
        target: &mut dyn BulkTarget,
        context: &Context,
        source: &mut dyn FnMut(usize) -> Result<Option<Bytes>, StreamError>,
    ) -> Result<Result<BulkDone, BulkFailure>, LocalFault> {
        self.fill(limits, target, Some(source), |instance| instance.restore(context))
    }

    /// Brings the state in `target`, which is a copy of the tenant's, from schema `from_schema` to this plugin's; 0
    /// for a tenant just created, whose state is empty.
    pub fn migrate(
        &self,
        limits: &Arc<Profile>,
        target: &mut dyn BulkTarget,
        context: &Context,
        from_schema: u32,
    ) -> Result<Result<BulkDone, BulkFailure>, LocalFault> {
        self.fill(limits, target, None, |instance| instance.migrate(context, from_schema))
    }

    fn fill(
        &self,
        limits: &Arc<Profile>,
        target: &mut dyn BulkTarget,
        mut source: Option<Source<'_>>,
        call: impl FnOnce(&mut Instance) -> Result<Result<Result<(), String>, Failure>, LocalFault> + Send,
    ) -> Result<Result<BulkDone, BulkFailure>, LocalFault> {
        let mut instance = match Instance::new(&self.mounted(limits)?, limits)? {
            Ok(instance) => instance,
            Err(failure) => return Ok(Err(BulkFailure::Failed(failure))),
        };
        instance.lend(Overlay::new(target.reader()?));
        let mut due = None;
        let result = bulk::run(&mut instance, call, |request| match request {
            Request::Read(bytes_max) => match &mut source {
                Some(source) => match source(bytes_max) {
                    Ok(chunk) => Ok(Answer::Chunk(chunk)),
                    Err(error) => Err(Break::Fault(LocalFault::Stream(error))),
                },
                None => Ok(Answer::Chunk(None)),
            },
            Request::Flush(layer) => {
                due = layer.due().or(due);
                target.flush(layer)?;
                Ok(Answer::Reader(target.reader()?))
            }
            Request::Write(_) => Ok(Answer::Done),
        })?;
        match result {
            Ok(Ok(())) => {}
            Ok(Err(message)) => return Ok(Err(BulkFailure::Refused(abi::message(message)))),
            Err(failure) => return Ok(Err(failure)),
        }
        if let Some(mut overlay) = instance.take_back() {
            overlay.accept();
            let layer = overlay.into_layer();
            due = layer.due().or(due);
            if !layer.is_empty() {
                target.flush(layer)?;
            }
        }
        let (fuel, memory_bytes) = (instance.fuel(), instance.memory_bytes());
        let logs = std::mem::take(&mut instance.guest_mut().logs);
        Ok(Ok(BulkDone { due, fuel, memory_bytes, logs }))
    }

    /// The component on the machine that the profile's stack needs.
    pub(crate) fn mounted(&self, limits: &Profile) -> Result<Arc<Mounted>, LocalFault> {
        let stack_bytes = stack_bytes(limits);
        let machine = self.inner.runtime.machine(stack_bytes)?;
        if Arc::ptr_eq(&machine, self.inner.runtime.base()) {
            return Ok(self.inner.base.clone());
        }
        let mut others = self.inner.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|_, mounted| mounted.strong_count() > 0);
        if let Some(mounted) = others.get(&stack_bytes).and_then(Weak::upgrade) {
            return Ok(mounted);
        }
        let fault = |error: wasmtime::Error| LocalFault::Instantiate(error.into());
        let serialized = self.inner.base.component().serialize().map_err(fault)?;
        let component = machine.deserialize(&serialized).map_err(fault)?;
        let mounted = Arc::new(Mounted::new(machine, component).map_err(fault)?);
        others.insert(stack_bytes, Arc::downgrade(&mounted));
        Ok(mounted)
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Manifest { name, version, .. } = &self.inner.manifest;
        write!(f, "Plugin({name} {version}, {})", self.inner.digest)
    }
}
