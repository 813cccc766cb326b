//! What the tests share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use mortise_core::digest::{Context, Digest};
use mortise_core::layer::Layer;
use mortise_core::outcome::{Failure, Limit, Outcome};
use mortise_core::profile::Profile;
use mortise_core::state::{MemoryState, StateReader};
use mortise_core::time::LogTime;
use mortise_runtime::{Applied, Plugin, Runtime, RuntimeOptions};

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(RuntimeOptions::default()).unwrap())
}

/// A bad guest that loads, each compiled once.
pub(crate) fn guest(name: &'static str) -> Plugin {
    static PLUGINS: Mutex<BTreeMap<&str, Plugin>> = Mutex::new(BTreeMap::new());
    let mut plugins = PLUGINS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let load = || runtime().load(&mortise_artifacts::bad_guest(name).unwrap()).unwrap();
    plugins.entry(name).or_insert_with(load).clone()
}

/// The guest that does what its commands say.
pub(crate) fn hostile() -> Plugin {
    guest("hostile")
}

pub(crate) fn profile() -> Arc<Profile> {
    Arc::new(Profile::default())
}

pub(crate) fn context(sequence: u64) -> Context {
    Context { sequence, time: LogTime(1000 + sequence), principal: Some("ann".into()) }
}

pub(crate) fn state(pairs: &[(&str, &str)]) -> Arc<MemoryState> {
    let bytes = |text: &str| bytes::Bytes::copy_from_slice(text.as_bytes());
    Arc::new(pairs.iter().map(|(key, value)| (bytes(key), bytes(value))).collect())
}

pub(crate) fn empty() -> Arc<MemoryState> {
    state(&[])
}

/// Applies the commands as one entry.
pub(crate) fn entry(
    plugin: &Plugin,
    limits: &Arc<Profile>,
    state: Arc<dyn StateReader>,
    commands: &[&str],
) -> (Vec<Applied>, Layer) {
    let (applied, layer, _) = entry_and_digest(plugin, limits, state, commands);
    (applied, layer)
}

/// The same, with the tenant's first link of effect digests.
pub(crate) fn entry_and_digest(
    plugin: &Plugin,
    limits: &Arc<Profile>,
    state: Arc<dyn StateReader>,
    commands: &[&str],
) -> (Vec<Applied>, Layer, Digest) {
    let mut applier = plugin.applier(limits);
    let mut calls = applier.begin(state, Digest::default()).unwrap();
    let apply = |(at, command): (usize, &&str)| calls.apply(&context(at as u64 + 1), command.as_bytes());
    let all = commands.iter().enumerate().map(apply).collect::<Result<_, _>>().unwrap();
    let (layer, digest) = calls.finish();
    (all, layer, digest)
}

/// The outcome of one command under `limits`.
pub(crate) fn outcome(limits: &Profile, state: Arc<dyn StateReader>, command: &str) -> Outcome {
    let (mut applied, layer) = entry(&hostile(), &Arc::new(limits.clone()), state, &[command]);
    let outcome = applied.remove(0).outcome;
    if !outcome.took_effect() {
        assert!(layer.is_empty(), "{command} left writes behind");
    }
    outcome
}

pub(crate) fn exceeded(limit: Limit) -> Outcome {
    Outcome::Failed(Failure::LimitExceeded { limit })
}

pub(crate) fn trapped(reason: &str) -> Outcome {
    Outcome::Failed(Failure::Trapped { reason: reason.into() })
}

pub(crate) fn replied(reply: &str) -> Outcome {
    Outcome::Applied(bytes::Bytes::copy_from_slice(reply.as_bytes()))
}

/// The layer's puts.
pub(crate) fn puts(layer: &Layer) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    layer.points().map(|(key, value)| (text(key), text(value.as_ref().unwrap()))).collect()
}
