//! Reads: `validate`, `query` and `snapshot`, in an instance that is used again.

use std::sync::Arc;

use mortise_core::digest::Context;
use mortise_core::outcome::{Failure, Limit, Outcome, Rejection};
use mortise_core::overlay::Overlay;
use mortise_core::profile::Profile;
use mortise_core::state::StateReader;

use crate::abi;
use crate::bulk::{self, Answer, Break, BulkFailure, Request, StreamError};
use crate::failure::LocalFault;
use crate::instance::Instance;
use crate::logs::Logs;
use crate::machine::Mounted;
use crate::plugin::Plugin;

/// Calls after which an instance is replaced, so that what a plugin leaks or remembers does not last.
const CALLS_MAX: u32 = 10_000;
/// Memory above which an instance is replaced after a call, in bytes: an idle one should not hold much.
const MEMORY_BYTES_KEPT_MAX: u64 = 16 << 20;

/// Why `validate` does not let a command into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The plugin refused it.
    Rejected(Rejection),
    /// The plugin failed on it.
    Failed(Failure),
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(rejection) => Self::Rejected(rejection),
            Refusal::Failed(failure) => Self::Failed(failure),
        }
    }
}

/// Reads for one tenant.
pub struct Caller {
    plugin: Plugin,
    limits: Arc<Profile>,
    mounted: Option<Arc<Mounted>>,
    instance: Option<Instance>,
    calls: u32,
    fuel: u64,
    memory_bytes: u64,
    logs: Logs,
}

/// What a call returned.
type Called<R> = Result<Result<R, Failure>, LocalFault>;

impl Caller {
    pub(crate) fn new(plugin: Plugin, limits: Arc<Profile>) -> Self {
        Self {
            plugin,
            limits,
            mounted: None,
            instance: None,
            calls: 0,
            fuel: 0,
            memory_bytes: 0,
            logs: Logs::default(),
        }
    }

    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Fuel used by the last call.
    pub fn fuel(&self) -> u64 {
        self.fuel
    }

    /// Bytes of the instance's memories after the last call; an instance used before may have grown earlier.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// What the last call logged; nothing the second time.
    pub fn take_logs(&mut self) -> Logs {
        std::mem::take(&mut self.logs)
    }

    /// Whether the plugin would let the command into the log.
    pub fn validate(
        &mut self,
        state: Arc<dyn StateReader>,
        context: &Context,
        command: &[u8],
    ) -> Result<Result<(), Refusal>, LocalFault> {
        Ok(match self.call(state, |instance| instance.validate(context, command))? {
            Ok(Ok(())) => Ok(()),
            Ok(Err(rejection)) => Err(Refusal::Rejected(rejection.into())),
            Err(failure) => Err(Refusal::Failed(failure)),
        })
    }

    /// Answers a read.
    pub fn query(
        &mut self,
        state: Arc<dyn StateReader>,
        context: &Context,
        request: &[u8],
    ) -> Result<Outcome, LocalFault> {
        let reply_bytes_max = self.limits.reply_bytes_max;
        Ok(match self.call(state, |instance| instance.query(context, request))? {
            Ok(Ok(reply)) if reply.len() as u64 > reply_bytes_max => {
                Outcome::Failed(Failure::LimitExceeded { limit: Limit::ReplyBytes })
            }
            Ok(Ok(reply)) => Outcome::Applied(reply.into()),
            Ok(Err(rejection)) => Outcome::Rejected(rejection.into()),
            Err(failure) => Outcome::Failed(failure),
        })
    }

    /// Has the plugin write a snapshot of `state` to `output`, in pieces. More than `bytes_max` bytes end the call,
    /// so that a plugin cannot fill the disk.
    pub fn snapshot(
        &mut self,
        state: Arc<dyn StateReader>,
        bytes_max: u64,
        output: &mut dyn FnMut(&[u8]) -> Result<(), StreamError>,
    ) -> Result<Result<(), BulkFailure>, LocalFault> {
        let mut written = 0u64;
        let mut instance = match self.take_instance()? {
            Ok(instance) => instance,
            Err(failure) => return Ok(Err(BulkFailure::Failed(failure))),
        };
        instance.lend(Overlay::new(state));
        let result = bulk::run(&mut instance, Instance::snapshot, |request| match request {
            Request::Write(piece) => {
                written = written.saturating_add(piece.len() as u64);
                if written > bytes_max {
                    return Err(Break::TooLong { bytes_max });
                }
                output(&piece).map_err(|error| Break::Fault(LocalFault::Stream(error)))?;
                Ok(Answer::Done)
            }
            Request::Read(_) => Ok(Answer::Chunk(None)),
            // A view has no writes to flush.
            Request::Flush(_) => {
                Err(Break::Fault(LocalFault::Thread("a snapshot wrote to its state".into())))
            }
        })?;
        self.give_back(instance, result.is_ok());
        Ok(match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(message)) => Err(BulkFailure::Refused(abi::message(message))),
            Err(failure) => Err(failure),
        })
    }

    fn call<R>(
        &mut self,
        state: Arc<dyn StateReader>,
        call: impl FnOnce(&mut Instance) -> Called<R>,
    ) -> Called<R> {
        let mut instance = match self.take_instance()? {
            Ok(instance) => instance,
            Err(failure) => return Ok(Err(failure)),
        };
        instance.lend(Overlay::new(state));
        let result = call(&mut instance)?;
        self.give_back(instance, result.is_ok());
        Ok(result)
    }

    fn take_instance(&mut self) -> Called<Instance> {
        match self.instance.take() {
            Some(instance) => Ok(Ok(instance)),
            None => {
                self.calls = 0;
                let mounted = match &self.mounted {
                    Some(mounted) => mounted,
                    None => self.mounted.insert(self.plugin.mounted(&self.limits)?),
                };
                Instance::new(mounted, &self.limits)
            }
        }
    }

    /// Keeps the instance for the next call, unless the last one broke it or it has had its day.
    fn give_back(&mut self, mut instance: Instance, sound: bool) {
        instance.take_back();
        (self.fuel, self.memory_bytes) = (instance.fuel(), instance.memory_bytes());
        self.logs = std::mem::take(&mut instance.guest_mut().logs);
        self.calls += 1;
        if sound && self.calls < CALLS_MAX && self.memory_bytes <= MEMORY_BYTES_KEPT_MAX {
            self.instance = Some(instance);
        }
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("plugin", &self.plugin).field("calls", &self.calls).finish()
    }
}
