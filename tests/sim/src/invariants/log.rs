//! Invariants about what stands in logs, and what is said of it.

use mortise_core::group::NodeId;
use mortise_core::ids::LogIndex;
use mortise_core::replica::{Body, LogEntry, Message, Position, RoleKind, SnapshotMeta, Write};

use crate::coverage::Seldom;
use crate::world::{Checked, Violation, World};

impl World {
    /// **I2.** Committed entries never change. What a leader commits first extends the reference history; what
    /// anybody else knows to be committed is part of it.
    pub(super) fn committed_entries_never_change(&mut self, id: NodeId) -> Checked {
        let node = self.node(id);
        let Some(process) = &node.process else { return Ok(()) };
        let (view, watched) = (&process.view, &process.watched);
        // It may have committed and stepped down in one step.
        let (commit, leads) = (view.commit, view.role == RoleKind::Leader || watched.led);
        // Who takes up a new history brings what it knows to be committed: the first leader of a history that an
        // operator began anew makes it part of that, though another history may have given it up before.
        let takes_up = view.generation > watched.generation;
        if (commit == watched.commit && !takes_up) || view.generation < self.observed.cut {
            return Ok(());
        }
        // What was given up has to be committed again.
        let before = if takes_up { LogIndex(0) } else { watched.commit };
        let before = before.min(self.oracle.reference.last().index);
        for index in before.0 + 1..=commit.0 {
            let index = LogIndex(index);
            let Some(at) = self.position(id, index) else {
                return Violation::of(
                    "I2",
                    format!("node {id} commits {index}, which its log does not have"),
                );
            };
            match self.oracle.reference.position(index) {
                Some(known) if known == at => {}
                Some(known) => {
                    return Violation::of(
                        "I2",
                        format!("node {id} commits {at:?}, and {known:?} was committed"),
                    );
                }
                None if !leads => {
                    return Violation::of(
                        "I2",
                        format!("node {id} takes {at:?} for committed, and nobody did that"),
                    );
                }
                None => {
                    // A snapshot may have taken its place in the log.
                    let Some((_, entry)) = self.observed.entries.get(&at).cloned() else {
                        return Violation::of(
                            "I2",
                            format!("node {id} commits {at:?}, which nobody appended"),
                        );
                    };
                    self.oracle.commit(&entry)?;
                    self.observed.disk_changed = true;
                }
            }
        }
        Ok(())
    }

    /// **I6.** Committed means durable on `min_isr` replicas of the leader's confirmed record, or on copies of theirs
    /// that were lost since.
    pub(super) fn committed_means_durable(&mut self, id: NodeId) -> Checked {
        let Some(process) = &mut self.node_mut(id).process else { return Ok(()) };
        let before = std::mem::replace(&mut process.watched.commit, process.view.commit);
        let view = &process.view;
        let leads = view.role == RoleKind::Leader;
        if !(std::mem::replace(&mut process.watched.led, leads) || leads) || view.commit <= before {
            return Ok(());
        }
        let (commit, record) = (view.commit, view.record.clone());
        let (Some(record), Some(at)) = (record, self.position(id, commit)) else { return Ok(()) };
        let holds = |node: &&NodeId| {
            let disk = &self.node(**node).disk;
            let same = record.member(**node).map(|member| member.incarnation) == Some(disk.incarnation());
            !disk.intact || !same || disk.durable.holds(at)
        };
        let holders = record.isr.iter().filter(holds).count();
        if holders >= record.min_isr as usize {
            return Ok(());
        }
        Violation::of(
            "I6",
            format!("node {id} commits {at:?}, which is durable on {holders} of {:?}", record.isr),
        )
    }

    /// **I3.** Log matching: two logs that have an entry of the same epoch and index are equal up to there. A position
    /// has one content and one predecessor, whoever writes it.
    fn logs_match(&mut self, id: NodeId, previous: Position, entries: &[LogEntry]) -> Checked {
        let mut previous = previous;
        for entry in entries {
            let known = self.observed.entries.entry(entry.at).or_insert_with(|| (previous, entry.clone()));
            let is = known.0 == previous && known.1.payload == entry.payload;
            if !is || entry.at.index != previous.index.next() || entry.at.epoch < previous.epoch {
                let what =
                    format!("node {id} appends {:?} after {previous:?}, known after {:?}", entry.at, known.0);
                return Violation::of("I3", what);
            }
            previous = entry.at;
        }
        Ok(())
    }

    /// I2 and I3 where a replica writes: it appends what belongs there, and takes back nothing that it committed.
    pub(crate) fn check_write(&mut self, id: NodeId, write: &Write) -> Checked {
        let node = self.node(id);
        match write {
            Write::Append(entries) => self.logs_match(id, node.disk.written.last(), entries),
            Write::Truncate { after } => {
                let log = &node.disk.written;
                let epochs = log.epochs.starts().iter().filter(|(_, start)| start > after).count();
                let spread =
                    epochs > 1 || (epochs == 1 && log.epochs.epoch_at(after.next()) < log.last().epoch);
                let committed = node.process.as_ref().map_or(LogIndex(0), |process| process.watched.commit);
                let base = log.base.index;
                self.coverage.count_if(spread, Seldom::TruncatedOverEpochs);
                if *after < committed || *after < base {
                    return Violation::of(
                        "I2",
                        format!("node {id} truncates to {after}, and committed {committed}"),
                    );
                }
                Ok(())
            }
            Write::Install { meta, log } if !self.is_staged(id, meta, *log) => {
                Violation::of("snapshot", format!("node {id} installs what it has not fetched: {meta:?}"))
            }
            Write::Install { meta, .. } => self.check_snapshot(id, meta),
            Write::Save(_) => Ok(()),
        }
    }

    /// **I4.** Every intact member of isr or elr holds every committed entry on its disk.
    pub(super) fn eligible_members_hold_what_is_committed(&self) -> Checked {
        let record = &self.observed.record;
        let last = self.oracle.reference.last();
        let eligible = record.isr.union(&record.elr).filter(|id| self.is_whole(**id));
        for id in eligible {
            let log = &self.node(*id).disk.durable;
            if last.index.0 > 0 && !log.holds(last) {
                let what = format!("member {id} has {:?} on disk, and {last:?} is committed", log.last());
                return Violation::of("I4", what);
            }
        }
        Ok(())
    }

    /// **I8.** No acknowledgement before fsync: neither of entries, nor of a promise. **I10.** An incarnation never
    /// counts for its predecessor: a copy that lost something does not speak under the number it had.
    pub(crate) fn check_send(&self, id: NodeId, message: &Message) -> Checked {
        let disk = &self.node(id).disk;
        let (fence, log) = (&message.fence, &disk.durable);
        let acknowledges = match &message.body {
            Body::Durable { index, .. } => {
                if log.last().index < *index {
                    let what = format!("node {id} acknowledges {index}, and has {:?} on disk", log.last());
                    return Violation::of("I8", what);
                }
                true
            }
            Body::BeaconAnswer { .. } | Body::Last { .. } => true,
            _ => false,
        };
        if acknowledges && log.hard.promised.epoch < fence.epoch {
            let what = format!("node {id} answers in epoch {}, before that promise is durable", fence.epoch);
            return Violation::of("I8", what);
        }
        if acknowledges && (!disk.intact || disk.incarnation() != fence.from) {
            let what = format!("node {id} answers as incarnation {}, which its copy is not", fence.from);
            return Violation::of("I10", what);
        }
        Ok(())
    }

    /// **I10.** What a lost copy goes on under was never the incarnation of another one.
    pub(crate) fn check_new_incarnation(&mut self, id: NodeId) -> Checked {
        self.observed.disk_changed = true;
        let incarnation = self.node(id).disk.written.hard.incarnation;
        if self.observed.lives.insert(incarnation) {
            return Ok(());
        }
        Violation::of("I10", format!("node {id} begins a life as {incarnation}, which was one before"))
    }

    /// **I12.** Equal effect digests at every applied index.
    pub(crate) fn check_applied(&self, id: NodeId) -> Checked {
        let Some(process) = &self.node(id).process else { return Ok(()) };
        let machine = &process.machine;
        if machine.tainted || process.view.generation < self.observed.cut {
            return Ok(());
        }
        if self.oracle.reference.digest(machine.at.index) == Some(machine.digest) {
            return Ok(());
        }
        Violation::of("I12", format!("node {id} applied {:?}, and its digest is not the group's", machine.at))
    }

    /// **I12** at snapshots: equal digests there, and a position that is committed.
    pub(crate) fn check_snapshot(&self, id: NodeId, meta: &SnapshotMeta) -> Checked {
        let reference = &self.oracle.reference;
        let tainted = |node: &crate::world::Node| {
            let snapshot = node.disk.snapshot.as_ref().or(node.disk.staged.as_ref());
            node.process.as_ref().is_some_and(|process| process.machine.tainted)
                || snapshot.is_some_and(|snapshot| snapshot.state.tainted)
                || node.disk.staged.as_ref().is_some_and(|snapshot| snapshot.state.tainted)
        };
        if meta.generation < self.observed.cut || tainted(self.node(id)) {
            return Ok(());
        }
        let known = reference.position(meta.last.index) == Some(meta.last);
        if known && reference.digest(meta.last.index) == Some(meta.digest) {
            return Ok(());
        }
        Violation::of(
            "I12",
            format!("node {id} has a snapshot of {:?} that is not the group's state", meta.last),
        )
    }
}
