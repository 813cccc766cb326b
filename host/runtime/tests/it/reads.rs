//! `validate` and `query`.

use std::sync::Arc;

use mortise_core::outcome::{Failure, Limit, Outcome};
use mortise_core::state::{Direction, KeyRange, Pairs, StateError, StateReader};
use mortise_runtime::{LocalFault, Refusal};

use crate::support::*;

#[test]
fn validate_passes_refuses_or_fails() {
    let mut reader = hostile().reader(&profile());
    let mut validate = |command: &[u8]| reader.validate(empty(), &context(0), command).unwrap();
    assert_eq!(validate(b"put a 1"), Ok(()));
    assert!(matches!(validate(&[0xff]), Err(Refusal::Rejected(rejection)) if rejection.code == "not_utf8"));
    let trap = Failure::Trapped { reason: "unreachable code reached".into() };
    assert_eq!(validate(b"in-validate trap"), Err(Refusal::Failed(trap)));
    let fuel = Failure::LimitExceeded { limit: Limit::Fuel };
    assert_eq!(validate(b"in-validate loop"), Err(Refusal::Failed(fuel)));
    assert_eq!(validate(b"put a 1"), Ok(()), "a new instance took over");
}

#[test]
fn a_trap_in_each_export_is_a_failure_of_that_call_alone() {
    let (limits, trap) = (profile(), Failure::Trapped { reason: "unreachable code reached".into() });
    let refused = guest("trap-in-validate").reader(&limits).validate(empty(), &context(0), b"ok").unwrap();
    assert_eq!(refused, Err(Refusal::Failed(trap.clone())));
    let answer = guest("trap-in-query").reader(&limits).query(empty(), &context(0), b"ok").unwrap();
    assert_eq!(answer, Outcome::Failed(trap.clone()));
    let (applied, _) = entry(&guest("trap-in-apply"), &limits, empty(), &["ok", "put a 1"]);
    assert!(applied.iter().all(|one| one.outcome == Outcome::Failed(trap.clone())));
}

#[test]
fn query_reads_the_state_it_is_given_each_time() {
    let mut reader = hostile().reader(&profile());
    for value in ["one", "two"] {
        let outcome = reader.query(state(&[("key", value)]), &context(0), b"get").unwrap();
        assert_eq!(outcome, replied(value));
        assert!(reader.fuel() > 0);
    }
}

#[test]
fn a_query_cannot_write_and_survives_every_failure_of_the_one_before() {
    let mut reader = hostile().reader(&profile());
    for request in ["trap", "eat-memory", "overflow-stack", "flood-host", "put a 1", "reply 5000000"] {
        let outcome = reader.query(empty(), &context(0), request.as_bytes()).unwrap();
        assert!(!outcome.took_effect(), "{request}: {outcome:?}");
        assert_eq!(reader.query(empty(), &context(0), b"ok").unwrap(), replied("done"));
    }
}

#[test]
fn a_reader_keeps_the_log_lines_of_its_last_call() {
    let mut reader = hostile().reader(&profile());
    reader.query(empty(), &context(0), b"log-flood 3").unwrap();
    assert_eq!(reader.take_logs().lines.len(), 3);
    assert!(reader.take_logs().is_empty());
}

/// A state on a broken disk.
struct Broken;

impl StateReader for Broken {
    fn get(&self, _key: &[u8]) -> Result<Option<bytes::Bytes>, StateError> {
        Err(StateError("the disk is gone".into()))
    }

    fn scan(&self, _range: &KeyRange, _direction: Direction) -> Pairs<'_> {
        Box::new(std::iter::once(Err(StateError("the disk is gone".into()))))
    }
}

#[test]
fn a_state_that_cannot_be_read_is_a_local_fault_and_no_outcome() {
    let (plugin, limits) = (hostile(), profile());
    for command in ["get", "scan-all", "scan-forever", "flood-host"] {
        let mut applier = plugin.applier(&limits);
        let mut calls = applier.begin(Arc::new(Broken), Default::default()).unwrap();
        let result = calls.apply(&context(1), command.as_bytes());
        assert!(matches!(result, Err(LocalFault::State(_))), "{command}: {result:?}");
        let result = plugin.reader(&limits).query(Arc::new(Broken), &context(0), command.as_bytes());
        assert!(matches!(result, Err(LocalFault::State(_))), "{command}: {result:?}");
    }
    let mut applier = plugin.applier(&limits);
    let mut calls = applier.begin(Arc::new(Broken), Default::default()).unwrap();
    let applied = calls.apply(&context(1), b"trap").unwrap();
    assert!(matches!(applied.outcome, Outcome::Failed(_)), "a trap is an outcome, whatever the disk does");
}

#[test]
fn a_full_pool_is_a_local_fault() {
    let options = mortise_runtime::RuntimeOptions { pool_instances: 4, ..Default::default() };
    let runtime = mortise_runtime::Runtime::new(options).unwrap();
    let plugin = runtime.load(&mortise_artifacts::bad_guest("hostile").unwrap()).unwrap();
    let mut readers: Vec<_> = (0..5).map(|_| plugin.reader(&profile())).collect();
    let mut results = readers.iter_mut().map(|reader| reader.query(empty(), &context(0), b"ok"));
    assert!(results.by_ref().take(4).all(|result| result.is_ok()));
    assert!(matches!(results.next(), Some(Err(LocalFault::PoolFull { instances: 4 }))));
}

#[test]
fn plugins_are_shared_between_threads_and_callers_move_between_them() {
    fn shared<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    shared::<mortise_runtime::Runtime>();
    shared::<mortise_runtime::Plugin>();
    moves::<mortise_runtime::Applier>();
    moves::<mortise_runtime::Caller>();
    moves::<mortise_runtime::EntryCalls<'_>>();
}
