//! Each rule about safety is put out of force in the core, and the model has to notice.

use mortise_core::replica::{Mutant, Rare};
use mortise_model::configurations::{self, MUTANTS};
use mortise_model::search::search;

#[test]
fn every_rule_out_of_force_is_noticed() {
    println!("| rule | configuration | states | actions | first broken |");
    for (mutant, name) in MUTANTS {
        let bounds = configurations::named(name).expect("a configuration of this name");
        let report = search(bounds.mutant(*mutant), 1, |_| {});
        let Some(violation) = &report.violation else {
            panic!("{mutant:?} goes unnoticed in {} states of {name}", report.states);
        };
        println!(
            "| `{mutant:?}` | {name} | {} | {} | {} |",
            report.states, violation.length, violation.invariant
        );
    }
}

/// One round of matching (KIP-279) does no harm here by itself: every append names what precedes it, so the first one on a
/// stream that was matched too early does not fit, and the stream is matched anew.
#[test]
fn one_round_of_matching_is_made_good_by_what_precedes_an_append() {
    let bounds = configurations::named("zigzag").expect("a configuration of this name");
    let report = search(bounds.mutant(Mutant::MatchOnce), 1, |_| {});
    assert!(report.violation.is_none(), "{:?}", report.violation);
    assert!(report.coverage.of(Rare::Rematched) > 0, "the append always fitted");
}
