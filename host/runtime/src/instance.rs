//! One instance of a plugin, and metered calls into it.

use std::sync::Arc;

use mortise_core::digest::Context;
use mortise_core::outcome::{Failure, Limit};
use mortise_core::overlay::Overlay;
use mortise_core::profile::Profile;
use wasmtime::component::{ComponentNamedList, Lift, Lower, Resource, TypedFunc};

use crate::abi::{self, RejectionRecord, SinkHandle, SourceHandle, TransactionHandle, ViewHandle};
use crate::failure::{LocalFault, classify};
use crate::guest::{Guest, Task};
use crate::machine::Mounted;

/// What a plugin's function returns, or why it did not.
type Called<R> = Result<Result<R, Failure>, LocalFault>;

/// Bytes that the host copies out of a guest to read a manifest. Its lists may overlap in the guest's memory, so
/// that memory does not bound them.
const MANIFEST_COPY_BYTES_MAX: usize = 4 << 20;

/// An instance. After a failed call it must not be used again.
pub(crate) struct Instance {
    data: wasmtime::Store<Guest>,
    instance: wasmtime::component::Instance,
    mounted: Arc<Mounted>,
    apply: Option<abi::Apply>,
    validate: Option<abi::Validate>,
    query: Option<abi::Query>,
    /// Fuel used by the last call.
    fuel: u64,
}

impl Instance {
    /// A new instance. The inner result is an error where the plugin's own code or its size prevented that, which
    /// is the same on every replica.
    pub(crate) fn new(mounted: &Arc<Mounted>, limits: &Arc<Profile>) -> Called<Self> {
        let engine = mounted.engine();
        let mut data = wasmtime::Store::new(engine, Guest::new(limits.clone()));
        data.limiter(|guest| &mut guest.growth);
        // Lists are read in place or bounded by the guest's memory.
        data.set_hostcall_fuel(usize::MAX);
        data.set_fuel(limits.fuel).map_err(|error| LocalFault::Instantiate(error.into()))?;
        let result = mounted.pre().instantiate(&mut data);
        let refused = data.data().growth.refused;
        match result {
            Ok(instance) => Ok(Ok(Self {
                data,
                instance,
                mounted: mounted.clone(),
                apply: None,
                validate: None,
                query: None,
                fuel: 0,
            })),
            Err(error) => instantiation_failure(error, refused, mounted.pool_instances()).map(Err),
        }
    }

    pub(crate) fn guest(&self) -> &Guest {
        self.data.data()
    }

    pub(crate) fn guest_mut(&mut self) -> &mut Guest {
        self.data.data_mut()
    }

    /// Fuel used by the last call: the guest's own and that of its host calls.
    pub(crate) fn fuel(&self) -> u64 {
        self.fuel
    }

    /// Bytes of its memories. They only grow.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.guest().growth.memory_bytes()
    }

    /// Lends `overlay` to the calls that follow.
    pub(crate) fn lend(&mut self, overlay: Overlay) {
        self.guest_mut().overlay = Some(overlay);
    }

    /// Takes back what was lent.
    pub(crate) fn take_back(&mut self) -> Option<Overlay> {
        self.guest_mut().overlay.take()
    }

    pub(crate) fn describe(&mut self) -> Called<abi::ManifestRecord> {
        self.data.set_hostcall_fuel(MANIFEST_COPY_BYTES_MAX);
        let describe: abi::Describe = self.function("describe")?;
        let manifest = self.single(&describe, ());
        self.data.set_hostcall_fuel(usize::MAX);
        Ok(manifest?.map(|(manifest,)| manifest))
    }

    pub(crate) fn validate(
        &mut self,
        context: &Context,
        command: &[u8],
    ) -> Called<Result<(), RejectionRecord>> {
        let validate = match self.validate {
            Some(validate) => validate,
            None => self.function("validate")?,
        };
        self.validate = Some(validate);
        Ok(self.single(&validate, (view(), context.into(), command))?.map(|(result,)| result))
    }

    pub(crate) fn apply(
        &mut self,
        context: &Context,
        command: &[u8],
    ) -> Called<Result<Vec<u8>, RejectionRecord>> {
        let apply = match self.apply {
            Some(apply) => apply,
            None => self.function("apply")?,
        };
        self.apply = Some(apply);
        Ok(self.single(&apply, (transaction(), context.into(), command))?.map(|(result,)| result))
    }

    pub(crate) fn query(
        &mut self,
        context: &Context,
        request: &[u8],
    ) -> Called<Result<Vec<u8>, RejectionRecord>> {
        let query = match self.query {
            Some(query) => query,
            None => self.function("query")?,
        };
        self.query = Some(query);
        Ok(self.single(&query, (view(), context.into(), request))?.map(|(result,)| result))
    }

    pub(crate) fn expire(&mut self, context: &Context) -> Called<()> {
        let expire: abi::Expire = self.function("expire")?;
        self.single(&expire, (transaction(), context.into()))
    }

    pub(crate) fn snapshot(&mut self) -> Called<Result<(), String>> {
        let snapshot: abi::Snapshot = self.function("snapshot")?;
        let output = Resource::<SinkHandle>::new_borrow(0);
        Ok(self.bulk(Task::ReadAll, &snapshot, (view(), output))?.map(|(result,)| result))
    }

    pub(crate) fn restore(&mut self, context: &Context) -> Called<Result<(), String>> {
        let restore: abi::Restore = self.function("restore")?;
        let input = Resource::<SourceHandle>::new_borrow(0);
        let params = (transaction(), context.into(), input);
        Ok(self.bulk(Task::Restore, &restore, params)?.map(|(result,)| result))
    }

    pub(crate) fn migrate(&mut self, context: &Context, from_schema: u32) -> Called<Result<(), String>> {
        let migrate: abi::Migrate = self.function("migrate")?;
        let params = (transaction(), context.into(), from_schema);
        Ok(self.bulk(Task::ReadAll, &migrate, params)?.map(|(result,)| result))
    }

    /// An export, by the type that loading found it to have.
    fn function<P, R>(&mut self, name: &str) -> Result<TypedFunc<P, R>, LocalFault>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let index = self.mounted.export(name);
        let index = index.ok_or_else(|| LocalFault::Call(format!("no export {name}").into()))?;
        self.instance.get_typed_func(&mut self.data, index).map_err(|error| LocalFault::Call(error.into()))
    }

    /// Whether `name` is exported with the type that the contract gives it; otherwise what differs.
    pub(crate) fn check_export(&mut self, name: &str) -> Result<(), String> {
        let Some(index) = self.mounted.export(name) else { return Err("it is missing".into()) };
        let (instance, data) = (self.instance, &mut self.data);
        let result = match name {
            "describe" => check::<_, _>(instance.get_typed_func::<(), (abi::ManifestRecord,)>(data, index)),
            "validate" => {
                let function: wasmtime::Result<abi::Validate> = instance.get_typed_func(data, index);
                check(function)
            }
            "apply" => {
                let function: wasmtime::Result<abi::Apply> = instance.get_typed_func(data, index);
                check(function)
            }
            "query" => {
                let function: wasmtime::Result<abi::Query> = instance.get_typed_func(data, index);
                check(function)
            }
            "expire" => {
                let function: wasmtime::Result<abi::Expire> = instance.get_typed_func(data, index);
                check(function)
            }
            "snapshot" => {
                let function: wasmtime::Result<abi::Snapshot> = instance.get_typed_func(data, index);
                check(function)
            }
            "restore" => {
                let function: wasmtime::Result<abi::Restore> = instance.get_typed_func(data, index);
                check(function)
            }
            _ => {
                let function: wasmtime::Result<abi::Migrate> = instance.get_typed_func(data, index);
                check(function)
            }
        };
        result.map_err(|error| format!("{error:#}"))
    }

    fn single<P, R>(&mut self, function: &TypedFunc<P, R>, params: P) -> Called<R>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let fuel_max = self.guest().limits.fuel;
        self.call(Task::Single, fuel_max, function, params)
    }

    fn bulk<P, R>(&mut self, task: Task, function: &TypedFunc<P, R>, params: P) -> Called<R>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let fuel_max = self.guest().limits.fuel_bulk;
        self.call(task, fuel_max, function, params)
    }

    fn call<P, R>(&mut self, task: Task, fuel_max: u64, function: &TypedFunc<P, R>, params: P) -> Called<R>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let local = |error: wasmtime::Error| LocalFault::Call(error.into());
        self.guest_mut().start(task, fuel_max);
        self.data.set_fuel(fuel_max).map_err(local)?;
        let result = function.call(&mut self.data, params);
        let own = fuel_max - self.data.get_fuel().map_err(local)?.min(fuel_max);
        self.fuel = own.saturating_add(self.guest().meter.fuel);
        let spent = self.fuel > fuel_max;
        self.fuel = self.fuel.min(fuel_max);
        match result {
            Ok(_) if spent => Ok(Err(Failure::LimitExceeded { limit: Limit::Fuel })),
            Ok(value) => Ok(Ok(value)),
            Err(error) => classify(error, self.guest().growth.refused).map(Err),
        }
    }
}

fn view() -> Resource<ViewHandle> {
    Resource::new_borrow(0)
}

fn transaction() -> Resource<TransactionHandle> {
    Resource::new_borrow(0)
}

fn check<P, R>(function: wasmtime::Result<TypedFunc<P, R>>) -> wasmtime::Result<()> {
    function.map(drop)
}

/// Making an instance runs the guest's start functions and gives it its first memory, both under the profile; what
/// goes wrong with those is deterministic. A full pool, and what else has no part of a guest's, is not.
fn instantiation_failure(
    error: wasmtime::Error,
    refused: Option<Limit>,
    instances: u32,
) -> Result<Failure, LocalFault> {
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Err(LocalFault::PoolFull { instances });
    }
    match refused {
        Some(limit) => Ok(Failure::LimitExceeded { limit }),
        None if error.is::<wasmtime::Trap>() => classify(error, None),
        None => Err(LocalFault::Instantiate(error.into())),
    }
}
