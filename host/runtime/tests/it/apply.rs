//! One entry: outcomes, atomic commands, digests, and going on after a failure.

use mortise_core::digest::{Digest, EffectHasher};
use mortise_core::layer::{Effect, Layer};
use mortise_core::outcome::{Limit, Outcome, RejectionKind};

use crate::support::*;

#[test]
fn the_rest_of_an_entry_goes_on_after_each_kind_of_failure() {
    let failures = ["trap", "loop", "eat-memory", "overflow-stack", "put-big", "reply-gigabyte"];
    for failure in failures {
        let commands = ["put a 1", failure, "put b 2", "get a"];
        let (applied, layer) = entry(&hostile(), &profile(), empty(), &commands);
        assert!(matches!(applied[1].outcome, Outcome::Failed(_)), "{failure}");
        assert_eq!(applied[3].outcome, replied("1"), "{failure}: earlier writes stay visible");
        assert_eq!(puts(&layer), [("a".into(), "1".into()), ("b".into(), "2".into())], "{failure}");
    }
}

#[test]
fn a_refused_command_leaves_nothing_and_its_refusal_is_the_outcome() {
    let commands = ["put a 1", "reject", "put a 2"];
    let (applied, layer) = entry(&hostile(), &profile(), empty(), &commands);
    match &applied[1].outcome {
        Outcome::Rejected(rejection) => {
            assert_eq!((rejection.kind, rejection.code.as_str()), (RejectionKind::Invalid, "refused"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(puts(&layer), [("a".into(), "2".into())]);
}

#[test]
fn a_giant_rejection_is_cut() {
    let Outcome::Rejected(rejection) = outcome(&profile(), empty(), "giant-rejection") else {
        panic!("not rejected")
    };
    assert_eq!((rejection.code.as_str(), rejection.message.len()), ("giant", 4096));
}

#[test]
fn two_runs_give_equal_digests_outcomes_fuel_and_writes() {
    let commands = ["put a 1", "trap", "reject", "loop", "put b 2", "scan-all", "due 7", "eat-memory", "ok"];
    let run = || {
        let (applied, layer, digest) =
            entry_and_digest(&hostile(), &profile(), state(&[("x", "y")]), &commands);
        let seen: Vec<_> = applied.into_iter().map(|one| (one.outcome, one.fuel)).collect();
        (seen, layer, digest)
    };
    let first = run();
    assert_eq!(first, run());
    // A warm instance, and one that has not been used before, make no difference either.
    let (plugin, limits) = (hostile(), profile());
    let mut applier = plugin.applier(&limits);
    applier.warm().unwrap();
    let mut calls = applier.begin(state(&[("x", "y")]), Digest::default()).unwrap();
    for (at, command) in commands.iter().enumerate() {
        let applied = calls.apply(&context(at as u64 + 1), command.as_bytes()).unwrap();
        assert_eq!((applied.outcome, applied.fuel), first.0[at]);
    }
    assert_eq!(calls.finish(), (first.1, first.2));
}

#[test]
fn the_digest_covers_outcomes_and_net_effects_of_every_command() {
    let (applied, _, digest) = entry_and_digest(&hostile(), &profile(), empty(), &["put a 1", "reject"]);
    let mut effects = Layer::default();
    effects.put("a".into(), "1".into());
    let mut link = EffectHasher::new(Digest::default());
    link.add(&context(1), &applied[0].outcome, &effects);
    link.add(&context(2), &applied[1].outcome, &Layer::default());
    assert_eq!(digest, link.finish());
}

#[test]
fn effects_are_kept_only_when_asked_for() {
    let (plugin, limits) = (hostile(), profile());
    let mut applier = plugin.applier(&limits);
    let mut calls = applier.begin(empty(), Digest::default()).unwrap();
    assert_eq!(calls.apply(&context(1), b"put a 1").unwrap().effects, None);
    calls.keep_effects(true);
    let effects = calls.apply(&context(2), b"put b 2").unwrap().effects;
    assert_eq!(effects, Some(vec![Effect::Put("b".into(), "2".into())]));
    let effects = calls.apply(&context(3), b"trap").unwrap().effects;
    assert_eq!(effects, Some(vec![]));
}

#[test]
fn every_entry_gets_a_fresh_instance_and_sees_what_the_last_one_wrote() {
    let (plugin, limits) = (hostile(), profile());
    let mut applier = plugin.applier(&limits);
    let mut fuel = Vec::new();
    for _ in 0..3 {
        applier.warm().unwrap();
        let mut calls = applier.begin(state(&[("key", "there")]), Digest::default()).unwrap();
        let applied = calls.apply(&context(1), b"get").unwrap();
        assert_eq!(applied.outcome, replied("there"));
        fuel.push(applied.fuel);
    }
    assert!(fuel.iter().all(|used| *used == fuel[0]), "{fuel:?}");
}

#[test]
fn expire_writes_and_clears_its_alarm_first() {
    let (plugin, limits) = (hostile(), profile());
    let mut applier = plugin.applier(&limits);
    let mut calls = applier.begin(empty(), Digest::default()).unwrap();
    calls.apply(&context(1), b"due 5").unwrap();
    let expired = calls.expire(&context(2)).unwrap();
    assert_eq!(expired.outcome, replied(""));
    let (layer, _) = calls.finish();
    assert_eq!(layer.due(), Some(None));
    assert_eq!(layer.get(b"expired").unwrap().unwrap(), &1002u64.to_be_bytes()[..]);
}

#[test]
fn an_expire_that_fails_writes_nothing_and_does_not_come_back() {
    let (plugin, limits) = (guest("trap-in-expire"), profile());
    let mut applier = plugin.applier(&limits);
    let mut calls = applier.begin(empty(), Digest::default()).unwrap();
    let expired = calls.expire(&context(1)).unwrap();
    assert_eq!(expired.outcome, trapped("unreachable code reached"));
    assert_eq!(calls.apply(&context(2), b"put a 1").unwrap().outcome, replied("done"));
    let (layer, _) = calls.finish();
    assert_eq!((puts(&layer), layer.due()), (vec![("a".into(), "1".into())], Some(None)));
}

#[test]
fn log_lines_come_with_the_command_and_a_flood_is_counted() {
    let (applied, _) = entry(&hostile(), &profile(), empty(), &["log-flood", "ok"]);
    let logs = &applied[0].logs;
    assert!(!logs.lines.is_empty() && logs.lines.len() < 20);
    assert_eq!(logs.lines.len() as u64 + logs.dropped, 10_000);
    assert_eq!(applied[0].outcome, replied("done"), "log.write never fails");
    assert!(applied[1].logs.is_empty());
}

#[test]
fn a_plugin_that_cannot_start_under_a_smaller_profile_fails_deterministically() {
    let small = mortise_core::profile::Profile { memory_bytes_max: 1, ..Default::default() };
    assert_eq!(outcome(&small, empty(), "ok"), exceeded(Limit::Memory));
}
