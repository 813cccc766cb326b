//! Each configuration is searched to its end, and what it is for really happened.

use mortise_core::replica::Rare;
use mortise_model::configurations;
use mortise_model::coverage::Seen;
use mortise_model::search::{Report, search};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Searches all of a configuration; no invariant may be broken, and each of `rare` has to happen.
fn holds(name: &str, rare: &[Rare]) -> Report {
    let Some(bounds) = configurations::named(name) else { panic!("no configuration is called {name}") };
    let report = search(bounds, 1, |_| {});
    if let Some(violation) = &report.violation {
        panic!(
            "{name}: {} is broken after {} actions\n{}",
            violation.invariant, violation.length, violation.trace
        );
    }
    println!("{name}: {} states, {} steps, depth {}", report.states, report.steps, report.depth);
    for rare in rare {
        assert!(report.coverage.of(*rare) > 0, "{name}: {rare:?} never happened");
    }
    assert!(report.coverage.count(Seen::Commit) > 0, "{name}: nothing was ever committed");
    report
}

#[test]
fn leaders_fail_over_twice() {
    let report = holds("failover", &[Rare::Truncated]);
    assert!(report.coverage.count(Seen::Leadership) > 1);
}

#[test]
fn logs_that_part_twice_are_matched_over_epochs() {
    holds("zigzag", &[Rare::MatchedOverEpochs, Rare::ElectedFromElr, Rare::Truncated]);
}

#[test]
fn the_set_shrinks_below_what_commits_and_its_eligible_members_lead() {
    holds("shrink", &[Rare::ElectedFromElr, Rare::Truncated]);
}

#[test]
fn who_missed_entries_joins_again() {
    holds("expand", &[Rare::Truncated]);
}

#[test]
fn a_leader_that_is_alone_in_the_set_fails() {
    holds("alone", &[Rare::ElectedFromElr, Rare::Truncated]);
}

#[test]
fn two_nodes_of_which_one_suffices_fail_over() {
    holds("two", &[Rare::Truncated]);
}

#[test]
fn swaps_without_an_answer_are_applied_late_or_never() {
    holds("unknown", &[Rare::UnknownSwapApplied, Rare::UnknownSwapRefused, Rare::ElectedFromElr]);
}

#[test]
fn leaders_lose_what_only_followers_made_durable() {
    holds("crash", &[Rare::Truncated]);
}

#[test]
fn any_write_is_lost_in_a_crash() {
    holds("torn", &[Rare::Truncated]);
}

#[test]
fn streams_break_with_appends_on_the_way() {
    holds("break", &[Rare::Truncated]);
}

#[test]
fn a_disk_is_wiped() {
    holds("wipe", &[Rare::NewIncarnation, Rare::Truncated]);
}

#[test]
fn leadership_is_handed_over() {
    holds("transfer", &[Rare::Transferred, Rare::Truncated]);
}

#[test]
fn leadership_is_not_handed_to_who_misses_entries() {
    holds("transfer-out", &[Rare::Transferred]);
}

#[test]
fn min_isr_is_raised_and_lowered() {
    holds("min-isr", &[Rare::ElectedFromElr]);
}

#[test]
fn tokens_are_found_committed_or_lost() {
    holds("tokens", &[Rare::TokenLost, Rare::Truncated]);
}

#[test]
fn reads_are_confirmed_while_leaders_change() {
    let report = holds("reads", &[Rare::Truncated]);
    assert!(report.coverage.count(Seen::Read) > 0);
}

#[test]
fn reads_of_a_leader_alone_are_confirmed_by_the_eligible() {
    let report = holds("reads-alone", &[Rare::ElectedFromElr]);
    assert!(report.coverage.count(Seen::Read) > 0);
}

#[test]
fn a_leader_goes_on_under_another_lease() {
    holds("lease", &[Rare::Readopted]);
}

#[test]
fn a_restored_coordinator_freezes_the_group() {
    let report = holds("restore", &[]);
    assert!(report.coverage.count(Seen::Freeze) > 0);
}

#[test]
fn every_configuration_is_searched() {
    let source = include_str!("invariants.rs");
    for bounds in configurations::all() {
        let call = format!("holds(\"{}\"", bounds.name);
        assert!(source.contains(&call), "no test searches {}", bounds.name);
    }
}
