//! A seeded simulation of replica groups. The code that is simulated is the shipped core, `mortise_core::replica`;
//! everything around it, from the disk to the clients, lives in one thread and one queue, and goes wrong as the
//! seed says. After every step the invariants of the protocol are checked, and every answer to a client is held
//! against a reference history. Then everything is mended, and the group has to come to rest.
//!
//! A run is a pure function of [`Run`]: a failure is repeated by its seed.

mod coverage;
mod faults;
mod invariants;
mod linearizable;
mod oracle;
mod random;
mod scenario;
mod settle;
mod trace;
mod world;

pub use coverage::{Coverage, Seldom};
pub use scenario::{SCENARIOS, Scenario};
pub use trace::Tracing;
pub use world::Violation;

use std::cell::Cell;
use std::sync::Once;

use world::World;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Everything follows from it.
    pub seed: u64,
    /// The mixture of faults; drawn by the seed where none is given.
    pub scenario: Option<Scenario>,
    /// What to take down.
    pub tracing: Tracing,
    /// The rule of the core that is out of force.
    #[cfg(feature = "mutants")]
    pub mutant: Option<mortise_core::replica::Mutant>,
}

impl Run {
    /// An ordinary run.
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            scenario: None,
            tracing: Tracing::Off,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    /// The command that repeats it, with a trace.
    pub fn command(&self) -> String {
        let scenario =
            self.scenario.map_or(String::new(), |scenario| format!(" --scenario {}", scenario.name));
        format!("cargo xtask sim --start {} --seeds 1{scenario} --trace", self.seed)
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario that was run.
    pub scenario: &'static str,
    /// What rare things it met.
    pub coverage: Coverage,
    /// Steps of replicas.
    pub steps: u64,
    /// Simulated microseconds.
    pub simulated: u64,
    /// Writes that were acknowledged, and reads that were checked.
    pub answered: (u64, u64),
    /// A digest of all events and effects, if it was asked for.
    pub digest: u64,
    /// The rule that was broken.
    pub violation: Option<Violation>,
}

thread_local! {
    /// What this thread runs.
    static RUNNING: Cell<Option<Run>> = const { Cell::new(None) };
}

/// A panic of what is simulated names the run that it was in, also where it ends the process.
fn name_the_run_of_a_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            if let Some(run) = RUNNING.get() {
                eprintln!("seed {} panicked\n  repeat it with: {}", run.seed, run.command());
            }
        }));
    });
}

/// Runs a world to its end, or to the first broken rule. If it panics, the seed is named on stderr.
pub fn run(run: &Run) -> Report {
    name_the_run_of_a_panic();
    RUNNING.set(Some(*run));
    let report = run_world(run);
    RUNNING.set(None);
    report
}

fn run_world(run: &Run) -> Report {
    let mut world = match World::new(run) {
        Ok(world) => world,
        Err(violation) => return Report::unborn(violation),
    };
    let end = world.profile.length * world.unit;
    let outcome = world.run_until(end).and_then(|()| world.settles());
    Report {
        scenario: world.profile.scenario.name,
        steps: world.steps,
        simulated: world.now,
        answered: (world.oracle.acknowledged, world.oracle.reads),
        digest: world.trace.digest(),
        coverage: world.coverage,
        violation: outcome.err(),
    }
}

impl Report {
    fn unborn(violation: Violation) -> Self {
        Self {
            scenario: "none",
            coverage: Coverage::default(),
            steps: 0,
            simulated: 0,
            answered: (0, 0),
            digest: 0,
            violation: Some(violation),
        }
    }
}
