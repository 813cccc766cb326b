//! Arbitrary and hostile events for replicas in every role: whatever comes, in any order, a replica does not panic, does a
//! bounded amount of work, keeps a bounded amount of memory, and does not contradict what it knows to be committed.

mod dice;
mod events;
mod witness;

use mortise_core::group::NodeId;
use mortise_core::replica::{MonoTime, Replica};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use self::dice::{CHOICES, Dice};
use self::events::Surroundings;
use self::witness::Witness;
use crate::script::Story;

/// Most effects of one step: 2 peers, 8 who wait, and windows of a few entries.
const EFFECTS_MAX: usize = 80;
/// Most characters of a replica's debug output: its memory, seen from outside. Most of it are 4096 digests.
const MEMORY_MAX: usize = 1 << 20;

/// How replicas come into their roles, and which one is looked at. Bounds are small, so that they are met.
const ROLES: [(&str, u64, &str); 10] = [
    ("a follower", 2, "write 1 a b c\npass 150"),
    ("a leader", 1, "write 1 a b c\npass 150"),
    ("a leader whose member hangs", 1, "hold 1-3\nwrite 1 a b c\nswaps late\npass 700"),
    ("a leader that may not serve yet", 2, "write 1 a\ncrash 1\nhold 3-2\npass 1000"),
    ("a leader that hands over", 1, "hold disk-2\nwrite 1 a\ntransfer 1 2"),
    ("a follower whose disk hangs", 2, "hold disk-2\nwrite 1 a b c"),
    (
        "a follower that fetches",
        3,
        "crash 3\npass 700\nwrite 1 a b\nsnapshot 1 drop=true\nhold fetch-3\nrestart 3\npass 90",
    ),
    ("a quarantined follower", 3, "hold fetch-3\nwrite 1 a\ndiffer 3\nwrite 1 b\npass 400"),
    ("a frozen leader", 1, "write 1 a\nwipe_coordinator"),
    ("a node that is no member", 4, "write 1 a"),
];

fn in_role(script: &str, node: u64) -> (Replica, Surroundings) {
    let head = "(cluster 3 others=1 append=60 window=120 tail=200 uncommitted=200 waiting=8)\n(until 1)\n";
    let mut story = Story::default();
    goldenscript::generate(&mut story, &format!("{head}{script}\n---\n")).expect("the story runs");
    let mut world = story.world.expect("a world");
    let surroundings = Surroundings::of(&world, NodeId(node));
    (world.node(NodeId(node)).replica.take().expect("it runs"), surroundings)
}

fn feed(role: usize, cases: &[Vec<u64>]) {
    let (name, node, script) = ROLES[role];
    let (mut replica, mut surroundings) = in_role(script, node);
    let mut witness = Witness::new(&replica);
    let mut now = surroundings.now;
    for choices in cases {
        let mut dice = Dice::new(choices);
        now += dice.pick(&[0, 0, 1000, 10_000, 50_000, 100_000, 600_000]);
        let event = surroundings.event(&mut dice, &replica.view());
        let told = format!("{name}: {event:?}");
        let effects = replica.step(MonoTime(now), event);
        assert!(effects.len() <= EFFECTS_MAX, "{} effects after {told}", effects.len());
        surroundings.look(&effects);
        witness.check(&replica.view(), &effects, &told);
    }
    let memory = format!("{replica:?}").len();
    assert!(memory < MEMORY_MAX, "{name} takes {memory} after {} events", cases.len());
}

fn fixed(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_260_301),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(fixed(3000))]

    #[test]
    fn whatever_happens_a_replica_keeps_its_rules(
        role in 0..ROLES.len(),
        cases in vec(vec(any::<u64>(), CHOICES), 1..60),
    ) {
        feed(role, &cases);
    }
}

proptest! {
    #![proptest_config(fixed(20))]

    #[test]
    fn however_long_it_goes_on_memory_is_bounded(
        role in 0..ROLES.len(),
        cases in vec(vec(any::<u64>(), CHOICES), 5000),
    ) {
        feed(role, &cases);
    }
}
