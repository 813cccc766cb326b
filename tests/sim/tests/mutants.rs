//! Each rule of the core is put out of force, and the simulator has to notice within a bounded number of seeds.

#![allow(clippy::expect_used)] // A scenario's name is there, or the test fails.

use std::sync::atomic::{AtomicUsize, Ordering};

use mortise_core::replica::Mutant;
use mortise_sim::{Run, Scenario, run};

/// Each rule with the scenario that shows best what it is for (none: that of the seed), and the seeds within which that has
/// to break something: some times as many as it took, since any change of the core or the world shifts what a seed means.
///
/// Missing are those whose harm takes an interleaving so rare that only the model comes upon it, which searches all of
/// them: `AnswersUnfenced`, `CommitBeforeStart` and `LostBelowEpoch`; and `MatchOnce`, which does no harm, as the model shows.
const MUTANTS: &[(Mutant, Option<&str>, u64)] = &[
    (Mutant::LeaseWhileElecting, Some("leases"), 4000),
    (Mutant::SessionDeposes, Some("coordinator"), 800),
    (Mutant::LeaseFromAnswer, Some("transfers"), 600),
    (Mutant::CommitBeforeShrink, Some("network"), 50),
    (Mutant::RaiseSetsOnAnswer, Some("coordinator"), 50),
    (Mutant::SameRevisionRefuses, Some("everything"), 600),
    (Mutant::ElrDropped, Some("crashes"), 50),
    (Mutant::ElrKept, Some("crashes"), 50),
    (Mutant::LostCopyKeepsIncarnation, Some("disks"), 50),
    (Mutant::ElectStale, Some("network"), 50),
    (Mutant::TruncateToCommit, Some("crashes"), 50),
    (Mutant::ExpandStale, Some("network"), 50),
    (Mutant::AcksFromBefore, Some("crashes"), 50),
    (Mutant::NeverFreeze, Some("restored"), 50),
    (Mutant::OpenAcknowledges, Some("network"), 200),
    (Mutant::AcknowledgeBeforeFsync, Some("crashes"), 50),
    (Mutant::AnswerBeforePromise, Some("crashes"), 50),
    (Mutant::CommitAlone, Some("crashes"), 50),
    (Mutant::ReadUnconfirmed, Some("network"), 50),
    (Mutant::ConfirmByIsr, Some("leases"), 300),
    (Mutant::TransferOutsideIsr, Some("transfers"), 50),
    (Mutant::LostOnTruncation, Some("ack-leader"), 50),
    (Mutant::LostBeforeStart, Some("ack-leader"), 200),
    (Mutant::ServeBeforeStart, Some("crashes"), 50),
];

/// How many seeds it takes until something breaks, and what does.
fn seeds_until(mutant: Mutant, scenario: Option<Scenario>, most: u64) -> Option<(u64, &'static str)> {
    (0..most).find_map(|seed| {
        let run = run(&Run { mutant: Some(mutant), scenario, ..Run::of(seed) });
        run.violation.map(|violation| (seed + 1, violation.rule))
    })
}

#[test]
fn every_rule_out_of_force_is_noticed() {
    println!("| rule | scenario | seeds | first broken |");
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((mutant, name, most)) = MUTANTS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let scenario = name.map(|name| Scenario::named(name).expect("a scenario of this name"));
            let name = name.unwrap_or("any");
            let Some((seeds, rule)) = seeds_until(*mutant, scenario, *most) else {
                panic!("{mutant:?} goes unnoticed in {most} seeds of {name}");
            };
            println!("| `{mutant:?}` | {name} | {seeds} | {rule} |");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}
