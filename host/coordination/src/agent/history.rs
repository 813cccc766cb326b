//! Noticing that etcd was wiped, restored or exchanged.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Broken;
use crate::seen::{ClusterId, Revision};
use crate::state::History;

/// The newest that is known of etcd: its cluster and the highest revision it answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The cluster.
    pub cluster: ClusterId,
    /// The revision.
    pub revision: Revision,
}

/// What an answer says about the history.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Use it.
    Continuous,
    /// It is behind what was known when it was asked for: once more, elsewhere; a second time it is a break.
    Behind(Broken),
    /// Another cluster answered.
    Foreign(Broken),
}

/// Judges answers, and remembers a break until an operator accepts it.
///
/// An answer is compared with what was known when it was *asked for*: two requests at once may be answered in any order.
pub(super) struct Judge {
    state: Mutex<State>,
}

struct State {
    known: Option<Known>,
    history: History,
}

impl Judge {
    pub(super) fn new(known: Option<Known>) -> Self {
        Self { state: Mutex::new(State { known, history: History::Continuous }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be taken before asking.
    pub(super) fn known(&self) -> Option<Known> {
        self.state().known
    }

    pub(super) fn history(&self) -> History {
        self.state().history.clone()
    }

    /// Judges a linearizable answer to a question that was asked when `asked` was known.
    pub(super) fn judge(&self, asked: Option<Known>, cluster: ClusterId, revision: Revision) -> Verdict {
        let mut state = self.state();
        let broken = |known: Known| Broken {
            known_cluster: known.cluster,
            known_revision: known.revision,
            seen_cluster: cluster,
            seen_revision: revision,
        };
        match state.known {
            Some(known) if known.cluster != cluster => return Verdict::Foreign(broken(known)),
            _ => {}
        }
        // What is known goes back only where an operator accepts another history: what was asked before says nothing then.
        let comparable = |asked: &Known| {
            state
                .known
                .is_some_and(|known| asked.cluster == known.cluster && asked.revision <= known.revision)
        };
        if let Some(asked) = asked.filter(comparable).filter(|asked| revision < asked.revision) {
            return Verdict::Behind(broken(asked));
        }
        if state.history == History::Continuous {
            let revision = revision.max(state.known.map_or(Revision(0), |known| known.revision));
            state.known = Some(Known { cluster, revision });
        }
        Verdict::Continuous
    }

    /// Whether another cluster answered than the known one: for answers whose revision says nothing.
    pub(super) fn foreign(&self, cluster: ClusterId, revision: Revision) -> Option<Broken> {
        let known = self.known().filter(|known| known.cluster != cluster)?;
        Some(Broken {
            known_cluster: known.cluster,
            known_revision: known.revision,
            seen_cluster: cluster,
            seen_revision: revision,
        })
    }

    /// Latches the break; says whether it is new.
    pub(super) fn latch(&self, broken: &Broken) -> bool {
        let mut state = self.state();
        if state.history != History::Continuous {
            return false;
        }
        state.history = History::Broken(broken.clone());
        true
    }

    /// An operator accepts etcd as it is, if it is `cluster`.
    pub(super) fn accept(&self, cluster: ClusterId) -> Result<(), ClusterId> {
        let mut state = self.state();
        let there = match &state.history {
            History::Broken(broken) => broken.seen_cluster,
            History::Continuous => state.known.map_or(cluster, |known| known.cluster),
        };
        if there != cluster {
            return Err(there);
        }
        if state.history != History::Continuous {
            state.known = Some(Known { cluster, revision: Revision(0) });
            state.history = History::Continuous;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLUE: ClusterId = ClusterId(1);
    const RED: ClusterId = ClusterId(2);

    fn judge(judge: &Judge, asked: Option<Known>, cluster: ClusterId, revision: u64) -> Verdict {
        judge.judge(asked, cluster, Revision(revision))
    }

    #[test]
    fn answers_may_overtake_each_other() {
        let it = Judge::new(None);
        let asked = it.known();
        assert_eq!(judge(&it, asked, BLUE, 9), Verdict::Continuous);
        assert_eq!(judge(&it, asked, BLUE, 5), Verdict::Continuous);
        assert_eq!(it.known(), Some(Known { cluster: BLUE, revision: Revision(9) }));
    }

    #[test]
    fn an_answer_below_what_was_known_when_it_was_asked_for_is_behind() {
        let it = Judge::new(Some(Known { cluster: BLUE, revision: Revision(9) }));
        assert!(matches!(judge(&it, it.known(), BLUE, 8), Verdict::Behind(_)));
        assert!(matches!(judge(&it, it.known(), RED, 100), Verdict::Foreign(_)));
        assert_eq!(judge(&it, it.known(), BLUE, 9), Verdict::Continuous);
    }

    #[test]
    fn a_break_lasts_until_exactly_that_cluster_is_accepted() {
        let it = Judge::new(Some(Known { cluster: BLUE, revision: Revision(9) }));
        let Verdict::Foreign(broken) = judge(&it, it.known(), RED, 3) else { panic!("not foreign") };
        assert!(it.latch(&broken));
        assert!(!it.latch(&broken), "told twice");
        assert_eq!(it.accept(ClusterId(7)), Err(RED));
        assert_eq!(it.history(), History::Broken(broken));
        assert_eq!(it.accept(RED), Ok(()));
        assert_eq!(it.history(), History::Continuous);
        assert_eq!(judge(&it, it.known(), RED, 3), Verdict::Continuous);
        assert_eq!(it.accept(BLUE), Err(RED), "nothing is broken, and still another cluster is there");
    }

    #[test]
    fn a_question_from_before_an_acceptance_breaks_nothing() {
        let it = Judge::new(Some(Known { cluster: BLUE, revision: Revision(9) }));
        let asked = it.known();
        let Verdict::Behind(broken) = judge(&it, asked, BLUE, 3) else { panic!("not behind") };
        it.latch(&broken);
        assert_eq!(it.accept(BLUE), Ok(()));
        assert_eq!(judge(&it, asked, BLUE, 4), Verdict::Continuous);
    }
}
