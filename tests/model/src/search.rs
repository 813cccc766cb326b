//! Searching a configuration, and telling what was found.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::bounds::Bounds;
use crate::coverage::Coverage;
use crate::model::Group;

/// How often a search is looked at for its end.
const POLL: Duration = Duration::from_millis(5);
/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);

/// A broken invariant, and how to break it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// How many actions it took.
    pub length: usize,
    /// The actions with the states between them, for reading.
    pub trace: String,
}

/// What a search found.
#[derive(Debug)]
pub struct Report {
    /// States that differ.
    pub states: usize,
    /// Steps taken.
    pub steps: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// How long it took.
    pub time: Duration,
    /// The first broken invariant.
    pub violation: Option<Violation>,
    /// What happened.
    pub coverage: Arc<Coverage>,
}

/// How far a search is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// States that differ.
    pub states: usize,
    /// Steps taken.
    pub steps: usize,
    /// Actions on the way to the newest states.
    pub depth: usize,
    /// Since when.
    pub time: Duration,
}

/// Searches all of a configuration, breadth first, until an invariant is broken. Tells `watcher` about every second how
/// far it is.
pub fn search(bounds: Bounds, threads: usize, watcher: impl Fn(Progress)) -> Report {
    let begun = Instant::now();
    let group = Group::new(bounds);
    let coverage = Arc::clone(&group.coverage);
    let checker = group.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs();
    let mut told = Instant::now();
    while !checker.is_done() {
        std::thread::sleep(POLL);
        if told.elapsed() >= TELL {
            told = Instant::now();
            let (states, steps) = (checker.unique_state_count(), checker.state_count());
            watcher(Progress { states, steps, depth: checker.max_depth(), time: begun.elapsed() });
        }
    }
    let checker = checker.join();
    // A way is found again by following it.
    checker.model().is_broken.store(false, Ordering::Relaxed);
    let found = checker.discoveries().into_iter().min_by_key(|(_, path)| path.clone().into_actions().len());
    let violation = found.map(|(invariant, path)| {
        let steps = path.into_vec();
        let mut trace = String::new();
        for (number, (world, action)) in steps.iter().enumerate() {
            trace += &world.summary();
            if let Some(action) = action {
                trace += &format!("{}. {action}\n", number + 1);
            }
        }
        Violation { invariant, length: steps.len() - 1, trace }
    });
    Report {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        time: begun.elapsed(),
        violation,
        coverage,
    }
}
