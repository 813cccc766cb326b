//! A tenant of one plugin, without a node around it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use mortise_core::digest::{Context, Digest, StateDigest, state_digest};
use mortise_core::layer::Effect;
use mortise_core::outcome::{Outcome, Rejection};
use mortise_core::profile::Profile;
use mortise_core::state::MemoryState;
use mortise_core::time::LogTime;
use mortise_runtime::{
    Applied, Applier, BulkFailure, Caller, LogLine, Logs, Manifest, Plugin, Runtime, RuntimeOptions,
};
use serde::Serialize;
use serde_json::Value;

use crate::state::{Target, absorb};

/// Instances that all tests of a process may hold at once.
const POOL_INSTANCES: u32 = 256;
/// Log time of a new tenant, in milliseconds: any time but 0, which hides mistakes.
const TIME_MS_FIRST: u64 = 1_000_000;
/// Calls of `expire` after which a plugin is taken to set a due time that has passed, for ever.
const EXPIRE_CALLS_MAX: usize = 10_000;
/// Bytes of a snapshot that are taken to be too many, where the state has not a quarter of that.
const SNAPSHOT_BYTES_MAX: u64 = 16 << 20;

/// A tenant that runs a compiled plugin.
///
/// Every call goes through the runtime that a node uses, with its limits and digests. Where that runtime itself fails
/// (no memory, a bug), methods panic: that is never the plugin's doing.
pub struct Tenant {
    plugin: Plugin,
    profile: Arc<Profile>,
    applier: Applier,
    caller: Caller,
    state: Arc<MemoryState>,
    sequence: u64,
    time_ms: u64,
    principal: Option<String>,
    due: Option<u64>,
    digest: Digest,
    fuel: u64,
    memory_bytes: u64,
    logs: Logs,
}

impl Tenant {
    /// Compiles a package of this workspace and creates a tenant that runs it. Compiled once in each process.
    ///
    /// # Errors
    /// It does not compile, or what [`Tenant::new`] says.
    pub fn build(package: &str) -> Result<Self> {
        static BUILT: Mutex<BTreeMap<String, Plugin>> = Mutex::new(BTreeMap::new());
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        let plugin = match built.get(package) {
            Some(plugin) => plugin.clone(),
            None => {
                let plugin = load(&mortise_artifacts::bytes(package)?)?;
                built.insert(package.to_owned(), plugin.clone());
                plugin
            }
        };
        drop(built);
        Self::new(plugin, Profile::default())
    }

    /// Loads a component and creates a tenant that runs it.
    ///
    /// # Errors
    /// The component is no plugin, or what [`Tenant::new`] says.
    pub fn load(component: &[u8]) -> Result<Self> {
        Self::new(load(component)?, Profile::default())
    }

    /// Creates a tenant that runs a loaded plugin under `profile`.
    ///
    /// # Errors
    /// The plugin's `migrate` from schema 0, by which a tenant is created, refuses or fails.
    pub fn new(plugin: Plugin, profile: Profile) -> Result<Self> {
        let profile = Arc::new(profile);
        let mut tenant = Self {
            applier: plugin.applier(&profile),
            caller: plugin.reader(&profile),
            plugin,
            profile,
            state: Arc::default(),
            sequence: 0,
            time_ms: TIME_MS_FIRST,
            principal: None,
            due: None,
            digest: Digest::default(),
            fuel: 0,
            memory_bytes: 0,
            logs: Logs::default(),
        };
        tenant.migrate(0).context("create a tenant")?;
        Ok(tenant)
    }

    /// The same tenant under another profile, to see limits.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = Arc::new(profile);
        self.applier = self.plugin.applier(&self.profile);
        self.caller = self.plugin.reader(&self.profile);
        self
    }

    /// Sets log time, in milliseconds. It never goes back: an earlier one is ignored.
    pub fn at_time(&mut self, time_ms: u64) -> &mut Self {
        self.time_ms = self.time_ms.max(time_ms);
        self
    }

    /// Lets log time pass, in milliseconds.
    pub fn after(&mut self, time_ms: u64) -> &mut Self {
        self.time_ms += time_ms;
        self
    }

    /// Sets who asks, from here on.
    pub fn as_principal(&mut self, name: &str) -> &mut Self {
        self.principal = Some(name.to_owned());
        self
    }

    /// Whether the plugin would let the command into the log; otherwise the outcome that its client would see.
    pub fn validate(&mut self, command: &[u8]) -> Result<(), Outcome> {
        let context = self.context();
        let result = sound(self.caller.validate(self.state.clone(), &context, command));
        self.note_read();
        result.map_err(Outcome::from)
    }

    /// Applies a command as a log entry of its own, without asking [`validate`](Self::validate) first.
    pub fn apply(&mut self, command: &[u8]) -> Outcome {
        let mut outcomes = self.apply_entry(&[command]);
        outcomes.pop().unwrap_or_else(|| unreachable!("one command has one outcome"))
    }

    /// Applies commands as one log entry: in one instance, as long as none fails.
    pub fn apply_entry(&mut self, commands: &[&[u8]]) -> Vec<Outcome> {
        self.entry(commands).into_iter().map(|(outcome, _)| outcome).collect()
    }

    /// The same, with each command's net writes.
    pub(crate) fn entry(&mut self, commands: &[&[u8]]) -> Vec<(Outcome, Vec<Effect>)> {
        let mut calls = sound(self.applier.begin(self.state.clone(), self.digest));
        calls.keep_effects(true);
        let mut done = Vec::new();
        (self.fuel, self.memory_bytes, self.logs) = (0, 0, Logs::default());
        for command in commands {
            self.sequence += 1;
            let context = Context {
                sequence: self.sequence,
                time: LogTime(self.time_ms),
                principal: self.principal.clone(),
            };
            let applied = sound(calls.apply(&context, command));
            self.fuel += applied.fuel;
            self.memory_bytes = self.memory_bytes.max(applied.memory_bytes);
            self.logs.lines.extend(applied.logs.lines);
            done.push((applied.outcome, applied.effects.unwrap_or_default()));
        }
        let (layer, digest) = calls.finish();
        self.digest = digest;
        self.due = layer.due().unwrap_or(self.due);
        absorb(Arc::make_mut(&mut self.state), &layer);
        done
    }

    /// Applies a command that must be refused, and checks that it left nothing behind.
    ///
    /// # Panics
    /// It was not refused, or the state or the due time changed.
    pub fn apply_rejected(&mut self, command: &[u8]) -> Rejection {
        let (before, due) = (self.state_digest(), self.due);
        let outcome = self.apply(command);
        assert_eq!((self.state_digest(), self.due), (before, due), "a refused command changed the state");
        match outcome {
            Outcome::Rejected(rejection) => rejection,
            other => panic!("expected a rejection, got {other:?}"),
        }
    }

    /// Applies a JSON command.
    ///
    /// # Errors
    /// The plugin refused.
    ///
    /// # Panics
    /// The call failed (a trap, a limit), or the reply is no JSON.
    pub fn apply_json(&mut self, command: &impl Serialize) -> Result<Value, Rejection> {
        let outcome = self.apply(&to_json(command));
        from_json(outcome, &self.logs)
    }

    /// Answers a request.
    pub fn query(&mut self, request: &[u8]) -> Outcome {
        let context = self.context();
        let outcome = sound(self.caller.query(self.state.clone(), &context, request));
        self.note_read();
        outcome
    }

    /// Answers a JSON request.
    ///
    /// # Errors
    /// The plugin refused.
    ///
    /// # Panics
    /// The call failed (a trap, a limit), or the response is no JSON.
    pub fn query_json(&mut self, request: &impl Serialize) -> Result<Value, Rejection> {
        let outcome = self.query(&to_json(request));
        from_json(outcome, &self.logs)
    }

    /// Calls `expire` where it is due, as a log entry of its own, and says whether it was.
    ///
    /// # Panics
    /// The call failed: a trap, or a limit.
    pub fn expire(&mut self) -> bool {
        if self.due.is_none_or(|due| due > self.time_ms) {
            return false;
        }
        self.sequence += 1;
        let context = self.context();
        let mut calls = sound(self.applier.begin(self.state.clone(), self.digest));
        let Applied { outcome, fuel, memory_bytes, logs, .. } = sound(calls.expire(&context));
        let (layer, digest) = calls.finish();
        assert!(outcome.took_effect(), "expire failed: {outcome:?}, {:?}", logs.lines);
        (self.digest, self.fuel, self.memory_bytes, self.logs) = (digest, fuel, memory_bytes, logs);
        self.due = layer.due().flatten();
        absorb(Arc::make_mut(&mut self.state), &layer);
        true
    }

    /// Calls `expire` until it is not due any more, and says how often.
    ///
    /// # Panics
    /// A call failed, or there is no end to it.
    pub fn expire_all(&mut self) -> usize {
        let calls = (0..EXPIRE_CALLS_MAX).take_while(|_| self.expire()).count();
        assert!(calls < EXPIRE_CALLS_MAX, "expire asks to be called at once, for ever");
        calls
    }

    /// The plugin's snapshot of the state.
    ///
    /// # Errors
    /// The plugin refused, trapped or passed a limit, or the snapshot is more than 16 MiB and four times the state.
    pub fn snapshot(&mut self) -> Result<Vec<u8>, BulkFailure> {
        let mut bytes = Vec::new();
        let mut output = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let bytes_max = SNAPSHOT_BYTES_MAX.max(self.state_digest().bytes.saturating_mul(4));
        let result = sound(self.caller.snapshot(self.state.clone(), bytes_max, &mut output));
        self.note_read();
        result.map(|()| bytes)
    }

    /// Replaces the state by that of a snapshot. The due time stays as it was where the plugin sets none.
    ///
    /// # Errors
    /// The plugin refused, trapped or passed a limit. The state stays as it was.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), BulkFailure> {
        let mut rest = Bytes::copy_from_slice(snapshot);
        let mut source = |bytes_max: usize| {
            let piece = rest.split_to(bytes_max.min(rest.len()));
            Ok((!piece.is_empty()).then_some(piece))
        };
        let mut target = Target::default();
        let context = self.context();
        let done = sound(self.plugin.restore(&self.profile, &mut target, &context, &mut source))?;
        self.due = done.due.unwrap_or(self.due);
        self.state = target.0;
        (self.fuel, self.memory_bytes, self.logs) = (done.fuel, done.memory_bytes, done.logs);
        Ok(())
    }

    /// Checks that a snapshot of the state, restored, is the state.
    ///
    /// # Panics
    /// It is not.
    pub fn assert_snapshot_roundtrip(&mut self) {
        let (state, due) = (self.state.clone(), self.due);
        let result = self.snapshot().and_then(|snapshot| self.restore(&snapshot));
        assert_eq!(result, Ok(()), "the snapshot cannot be taken or restored: {:?}", self.logs.lines);
        assert!(self.state == state, "the restored state is not the one the snapshot was taken of");
        assert_eq!(self.due, due, "restore sets another due time");
    }

    /// Brings the state from schema `from` to the plugin's.
    ///
    /// # Errors
    /// The plugin refused, trapped or passed a limit. The state stays as it was.
    pub fn migrate(&mut self, from: u32) -> Result<(), BulkFailure> {
        let mut target = Target(self.state.clone());
        let context = self.context();
        let done = sound(self.plugin.migrate(&self.profile, &mut target, &context, from))?;
        self.due = done.due.unwrap_or(self.due);
        self.state = target.0;
        (self.fuel, self.memory_bytes, self.logs) = (done.fuel, done.memory_bytes, done.logs);
        Ok(())
    }

    /// Every pair.
    pub fn state(&self) -> &MemoryState {
        &self.state
    }

    /// The digest over the state.
    pub fn state_digest(&self) -> StateDigest {
        sound(state_digest(self.state.as_ref()))
    }

    /// The tenant's chain of effect digests, by which replicas are compared.
    pub fn effect_digest(&self) -> Digest {
        self.digest
    }

    /// When `expire` is due, in milliseconds of log time.
    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// Log time in milliseconds.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The tenant's count of commands.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Fuel that the last call used; for [`apply_entry`](Self::apply_entry), that all its commands used.
    pub fn last_fuel(&self) -> u64 {
        self.fuel
    }

    /// Bytes that the instance's memories had grown to when the last call ended: for commands and bulk calls a fresh
    /// instance's, for `validate`, `query` and `snapshot` that of one used before.
    pub fn last_memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// What the last call logged.
    pub fn last_logs(&self) -> &[LogLine] {
        &self.logs.lines
    }

    /// What the plugin says of itself.
    pub fn manifest(&self) -> &Manifest {
        self.plugin.manifest()
    }

    /// The plugin, to create further tenants of it with [`Tenant::new`].
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    fn context(&self) -> Context {
        Context { sequence: self.sequence, time: LogTime(self.time_ms), principal: self.principal.clone() }
    }

    fn note_read(&mut self) {
        (self.fuel, self.memory_bytes) = (self.caller.fuel(), self.caller.memory_bytes());
        self.logs = self.caller.take_logs();
    }
}

/// Loads a component into the process's one runtime.
fn load(component: &[u8]) -> Result<Plugin> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let options = || RuntimeOptions { pool_instances: POOL_INSTANCES, ..RuntimeOptions::default() };
    let runtime = RUNTIME.get_or_init(|| Runtime::new(options()).map_err(|error| error.to_string()));
    let runtime = runtime.as_ref().map_err(|error| anyhow!("{error}")).context("start the plugin runtime")?;
    runtime.load(component).context("load the component")
}

/// What a call of the runtime gave, if this machine is sound.
fn sound<T, E: Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|fault| panic!("the runtime failed, not the plugin: {fault}"))
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    sound(serde_json::to_vec(value))
}

fn from_json(outcome: Outcome, logs: &Logs) -> Result<Value, Rejection> {
    match outcome {
        Outcome::Applied(reply) => Ok(sound(serde_json::from_slice(&reply))),
        Outcome::Rejected(rejection) => Err(rejection),
        Outcome::Failed(failure) => panic!("the call failed: {failure}; it logged {:?}", logs.lines),
    }
}
