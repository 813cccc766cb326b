//! Whether an answer of the coordinator can be true beside what it showed before.

use super::event::Seen;

/// What was known of the coordinator when something was asked: its identity, and its revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Floor {
    pub(super) coordinator: Option<u64>,
    pub(super) revision: u64,
}

/// How an answer of the coordinator came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The answer to a request, sent when this revision was known.
    Answer { floor: Floor },
    /// The watch.
    Watch,
}

/// The record shows the past of another coordinator.
pub(super) const RESTORED: &str =
    "the group's history began with another coordinator: this one was restored from a backup";

/// What an answer is, beside what is known.
pub(super) enum Verdict {
    /// The record has changed since.
    Newer,
    /// It is the one that is known.
    Same,
    /// It is from before what is known, and says nothing new.
    Stale,
    /// Overtaken, or a contradiction: only an answer can tell.
    Doubtful,
    /// Both cannot be true of one coordinator.
    Contradicts(&'static str),
}

/// Compares an answer with what is known, of the same history.
pub(super) fn contradiction(known: &Seen, seen: &Seen, source: Source) -> Verdict {
    if seen.coordinator != known.coordinator {
        return match source {
            // It may come from the coordinator before the one that an operator has accepted since.
            Source::Watch => Verdict::Doubtful,
            Source::Answer { floor } if floor.coordinator == Some(seen.coordinator) => Verdict::Stale,
            Source::Answer { .. } => {
                Verdict::Contradicts("another coordinator answers: its identity has changed")
            }
        };
    }
    match source {
        Source::Answer { floor }
            if floor.coordinator == Some(seen.coordinator) && seen.revision < floor.revision =>
        {
            return Verdict::Contradicts(
                "the coordinator's revision went back: it was restored from a backup",
            );
        }
        // Overtaken on its way by something newer.
        _ if seen.revision < known.revision => return Verdict::Stale,
        _ => {}
    }
    let (Some(record), Some(old)) = (&seen.record, &known.record) else {
        return Verdict::Contradicts("the coordinator has lost the group's record");
    };
    if seen.mod_revision < known.mod_revision {
        return match source {
            Source::Watch => Verdict::Stale,
            Source::Answer { .. } => {
                Verdict::Contradicts("the coordinator shows an older record of the group")
            }
        };
    }
    if seen.mod_revision == known.mod_revision {
        return if record == old {
            Verdict::Same
        } else {
            Verdict::Contradicts("the coordinator shows two records of one revision")
        };
    }
    if record.coordinator != old.coordinator {
        return Verdict::Contradicts(RESTORED);
    }
    if record.epoch < old.epoch || record.generation < old.generation {
        return Verdict::Contradicts("the group's record was replaced by an older one");
    }
    Verdict::Newer
}
