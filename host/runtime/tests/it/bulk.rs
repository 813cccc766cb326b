//! Snapshot, restore and migrate.

use std::sync::Arc;

use bytes::Bytes;
use mortise_core::digest::state_digest;
use mortise_core::layer::{Effect, Layer};
use mortise_core::outcome::{Failure, Limit};
use mortise_core::profile::Profile;
use mortise_core::state::{MemoryState, StateError, StateReader};
use mortise_runtime::{BulkFailure, BulkTarget, LocalFault, Plugin};

use crate::support::*;

/// An installation in memory.
#[derive(Default)]
struct Target {
    state: MemoryState,
    flushes: usize,
    broken: bool,
}

impl BulkTarget for Target {
    fn reader(&self) -> Result<Arc<dyn StateReader>, StateError> {
        Ok(Arc::new(self.state.clone()))
    }

    fn flush(&mut self, layer: Layer) -> Result<(), StateError> {
        if self.broken {
            return Err(StateError("the disk is full".into()));
        }
        self.flushes += 1;
        for effect in layer.effects() {
            match effect {
                Effect::Put(key, value) => drop(self.state.insert(key, value)),
                Effect::Delete(key) => drop(self.state.remove(&key)),
                Effect::DeleteRange(range) => self.state.retain(|key, _| !range.contains(key)),
            }
        }
        Ok(())
    }
}

const OUTPUT_BYTES_MAX: u64 = 32 << 20;

fn snapshot(plugin: &Plugin, state: Arc<MemoryState>) -> Result<Vec<u8>, BulkFailure> {
    let mut bytes = Vec::new();
    let mut output = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    plugin.reader(&profile()).snapshot(state, OUTPUT_BYTES_MAX, &mut output).unwrap()?;
    Ok(bytes)
}

fn restore(plugin: &Plugin, target: &mut Target, snapshot: &[u8], step: usize) -> Result<(), BulkFailure> {
    let mut rest = Bytes::copy_from_slice(snapshot);
    let mut source = move |bytes_max: usize| {
        let bytes = rest.len().min(bytes_max).min(step);
        Ok((bytes > 0).then(|| rest.split_to(bytes)))
    };
    plugin.restore(&profile(), target, &context(1), &mut source).unwrap().map(drop)
}

fn large() -> Arc<MemoryState> {
    let pair = |n: u32| (Bytes::from(n.to_be_bytes().to_vec()), Bytes::from(vec![n as u8; 1000]));
    Arc::new((0..5_000).map(pair).collect())
}

#[test]
fn restore_of_a_snapshot_is_the_same_state_in_whatever_pieces_it_comes() {
    let story: [(Arc<MemoryState>, usize); 4] = [
        (empty(), 100),
        (state(&[("a", "1"), ("b", ""), ("", "empty key")]), 1),
        (state(&[("a", "1"), ("b", "2")]), usize::MAX),
        (large(), 1 << 20),
    ];
    for (state, step) in story {
        let bytes = snapshot(&hostile(), state.clone()).unwrap();
        let mut target = Target::default();
        restore(&hostile(), &mut target, &bytes, step).unwrap();
        assert_eq!(state_digest(&target.state).unwrap(), state_digest(&*state).unwrap());
    }
}

#[test]
fn a_large_restore_is_flushed_on_the_way() {
    let counter = mortise_artifacts::bytes("mortise-example-counter").unwrap();
    let counter = runtime().load(&counter).unwrap();
    let pair = |n: u32| (Bytes::from(n.to_be_bytes().to_vec()), Bytes::from(vec![n as u8; 1000]));
    let state: Arc<MemoryState> = Arc::new((0..20_000).map(pair).collect());
    let bytes = snapshot(&counter, state.clone()).unwrap();
    let written = Profile::default().write_bytes_max;
    assert!(bytes.len() as u64 > written, "past what one command may write");
    let mut target = Target::default();
    restore(&counter, &mut target, &bytes, usize::MAX).unwrap();
    assert!(target.flushes > 2, "{}", target.flushes);
    assert_eq!(state_digest(&target.state).unwrap(), state_digest(&*state).unwrap());
}

#[test]
fn an_unfaithful_snapshot_shows_in_the_digest() {
    let state = state(&[("a", "1"), ("b", "2")]);
    let plugin = guest("unfaithful-snapshot");
    let mut target = Target::default();
    restore(&plugin, &mut target, &snapshot(&plugin, state.clone()).unwrap(), 100).unwrap();
    assert_ne!(state_digest(&target.state).unwrap(), state_digest(&*state).unwrap());
}

#[test]
fn a_snapshot_that_fails_says_how() {
    let state = state(&[("a", "1")]);
    let trap = Failure::Trapped { reason: "unreachable code reached".into() };
    assert_eq!(snapshot(&guest("trap-in-snapshot"), state.clone()), Err(BulkFailure::Failed(trap)));
    let refused = snapshot(&guest("error-in-snapshot"), state.clone());
    assert_eq!(refused, Err(BulkFailure::Refused("half-way, the snapshot fails".into())));
    let endless = snapshot(&guest("endless-snapshot"), state);
    assert_eq!(endless, Err(BulkFailure::TooLong { bytes_max: OUTPUT_BYTES_MAX }));
}

#[test]
fn bulk_calls_have_fuel_of_their_own() {
    let limits = Arc::new(Profile { fuel_bulk: 1_000_000, ..Profile::default() });
    let fuel = BulkFailure::Failed(Failure::LimitExceeded { limit: Limit::Fuel });
    let mut output = |_: &[u8]| Ok(());
    let looping = guest("loop-in-snapshot").reader(&limits).snapshot(empty(), 100, &mut output).unwrap();
    assert_eq!(looping, Err(fuel.clone()));
    let looping =
        guest("loop-in-restore").restore(&limits, &mut Target::default(), &context(1), &mut |_| Ok(None));
    assert_eq!(looping.unwrap(), Err(fuel.clone()));
    let looping = guest("loop-in-migrate").migrate(&limits, &mut Target::default(), &context(1), 1);
    assert_eq!(looping.unwrap(), Err(fuel));
}

#[test]
fn restore_and_migrate_report_refusals() {
    let refused = restore(&guest("error-in-restore"), &mut Target::default(), b"", 10);
    assert_eq!(refused, Err(BulkFailure::Refused("at its end, restore fails".into())));
    let refused =
        guest("error-in-migrate").migrate(&profile(), &mut Target::default(), &context(1), 0).unwrap();
    assert_eq!(refused, Err(BulkFailure::Refused("migrate fails".into())));
}

#[test]
fn a_trap_in_restore_or_migrate_is_a_failure() {
    let trap = BulkFailure::Failed(Failure::Trapped { reason: "unreachable code reached".into() });
    assert_eq!(restore(&guest("trap-in-restore"), &mut Target::default(), b"", 10), Err(trap.clone()));
    let failed =
        guest("trap-in-migrate").migrate(&profile(), &mut Target::default(), &context(1), 0).unwrap();
    assert_eq!(failed, Err(trap));
}

#[test]
fn migrate_sees_and_changes_the_state() {
    let mut target = Target { state: (*state(&[("a", "1")])).clone(), ..Target::default() };
    let done = hostile().migrate(&profile(), &mut target, &context(1), 3).unwrap().unwrap();
    assert!(done.fuel > 0);
    assert_eq!(done.due, None);
    assert_eq!(target.state.get(&b"migrated-from"[..]).unwrap(), &3u32.to_be_bytes()[..]);
    assert_eq!(target.state.len(), 2);
}

#[test]
fn a_failing_source_output_or_target_is_a_local_fault() {
    let mut output = |_: &[u8]| Err("the disk is full".into());
    let result = hostile().reader(&profile()).snapshot(state(&[("a", "1")]), 100, &mut output);
    assert!(matches!(result, Err(LocalFault::Stream(_))), "{result:?}");
    let mut source = |_| Err("the file is damaged".into());
    let result = hostile().restore(&profile(), &mut Target::default(), &context(1), &mut source);
    assert!(matches!(result, Err(LocalFault::Stream(_))), "{result:?}");
    let mut target = Target { broken: true, ..Target::default() };
    let result = hostile().migrate(&profile(), &mut target, &context(1), 0);
    assert!(matches!(result, Err(LocalFault::State(_))), "{result:?}");
}
