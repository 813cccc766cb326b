//! Invariants about who leads, with whom, and what was promised.

use mortise_core::group::{GroupRecord, NodeId};
use mortise_core::ids::LogIndex;
use mortise_core::replica::{Position, RoleKind};

use crate::coverage::Seldom;
use crate::trace::of_record;
use crate::world::{Checked, Violation, World};

impl World {
    /// **I1.** An epoch has one leader: one process of one node.
    pub(super) fn one_leader_an_epoch(&mut self, id: NodeId) -> Checked {
        let Some(process) = &self.node(id).process else { return Ok(()) };
        if process.view.role != RoleKind::Leader {
            return Ok(());
        }
        let (epoch, leader) = (process.view.promised.epoch, (id, process.boot));
        let first = *self.observed.leaders.entry(epoch).or_insert(leader);
        if first == leader {
            return Ok(());
        }
        Violation::of("I1", format!("epoch {epoch} is led by {leader:?}, and was led by {first:?}"))
    }

    /// **I5.** The set whose acknowledgements the record's leader waits for covers the in-sync set in the record.
    pub(super) fn maximal_isr_covers_the_record(&self, id: NodeId) -> Checked {
        let record = &self.observed.record;
        let Some(process) = &self.node(id).process else { return Ok(()) };
        let leads = process.view.role == RoleKind::Leader && process.view.promised.epoch == record.epoch;
        if !leads || record.leader != Some(id) || record.leader_boot != process.boot {
            return Ok(());
        }
        let listed = |node: &NodeId| record.member(*node).map(|member| (*node, member.incarnation));
        let missing =
            record.isr.iter().filter_map(listed).find(|one| !process.view.maximal_isr.contains(one));
        match missing {
            Some(missing) => Violation::of(
                "I5",
                format!("leader {id} counts with {:?}, not with {missing:?}", process.view.maximal_isr),
            ),
            None => Ok(()),
        }
    }

    /// **I7.** What a replica promised, and its generation, never go back: not in its memory, not on its disk.
    pub(super) fn promises_never_go_back(&mut self, id: NodeId) -> Checked {
        let node = &mut self.nodes[id.0 as usize - 1];
        let hard = &node.disk.durable.hard;
        let durable = (hard.promised.epoch, hard.generation);
        let before = self.observed.durable.insert(id, durable).unwrap_or_default();
        if durable.0 < before.0 || durable.1 < before.1 {
            return Violation::of("I7", format!("node {id} has {durable:?} on disk, and had {before:?}"));
        }
        let Some(process) = &mut node.process else { return Ok(()) };
        let (seen, view) = (&mut process.watched, &process.view);
        let same_epoch = view.promised.epoch == seen.promised.epoch;
        let changed = same_epoch && view.promised != seen.promised && seen.promised.leader.is_some();
        let given_up = view.promised.leader.is_none();
        if view.promised.epoch < seen.promised.epoch
            || view.generation < seen.generation
            || (changed && !given_up)
        {
            return Violation::of(
                "I7",
                format!("node {id} promises {:?}, and promised {:?}", view.promised, seen.promised),
            );
        }
        seen.promised = view.promised;
        seen.generation = view.generation;
        Ok(())
    }

    /// **I11.** A leader serves nothing before its epoch-start entry is committed and applied.
    pub(super) fn nothing_is_served_early(&self, id: NodeId) -> Checked {
        match &self.node(id).process {
            Some(process) if process.view.serving => self.check_serves(id, "serves"),
            _ => Ok(()),
        }
    }

    /// The rule of I11, where a leader does something that only a serving leader may.
    pub(crate) fn check_serves(&self, id: NodeId, does: &str) -> Checked {
        let Some(process) = &self.node(id).process else { return Ok(()) };
        let view = &process.view;
        if view.role != RoleKind::Leader {
            return Violation::of("I11", format!("node {id} {does}, and does not lead"));
        }
        if view.generation < self.observed.cut {
            // It leads a history that was given up, and can commit nothing in it.
            return Ok(());
        }
        let start = view.epoch_start.unwrap_or_default();
        let committed = self.oracle.reference.position(start);
        let applied = process.machine.at.index >= start;
        if committed == Some(Position { epoch: view.promised.epoch, index: start }) && applied {
            return Ok(());
        }
        Violation::of(
            "I11",
            format!("node {id} {does} in epoch {}, before entry {start} is committed", view.promised.epoch),
        )
    }

    /// **I16.** Whatever is committed lies on `min_isr` copies; so many are eligible, but for those that were lost.
    pub(super) fn enough_copies_are_eligible(&mut self) -> Checked {
        let record = &self.observed.record;
        let back =
            |id: &NodeId| record.member(*id).is_none() || (record.isr.contains(id) && self.is_whole(*id));
        let lost: Vec<NodeId> = self.observed.lost.iter().filter(|id| !back(id)).copied().collect();
        let eligible = record.isr.union(&record.elr).filter(|id| self.is_whole(**id)).count();
        let others = lost.iter().filter(|id| !(record.is_eligible(**id) && self.is_whole(**id))).count();
        let (enough, text) = (eligible + others >= record.min_isr as usize, of_record(record));
        self.observed.lost = lost.into_iter().collect();
        if enough || self.observed.raised || self.observed.contradicted.is_some() {
            return Ok(());
        }
        Violation::of("I16", format!("{eligible} copies are eligible, and {others} were lost: {text}"))
    }

    /// Whether a member's copy is all that its incarnation made durable.
    pub(crate) fn is_whole(&self, id: NodeId) -> bool {
        let disk = &self.node(id).disk;
        let listed = self.observed.record.member(id).map(|member| member.incarnation);
        disk.intact && listed == Some(disk.incarnation())
    }

    /// **I7** for the record: it only goes forward, and every change of its leader is a new epoch. Takes note of what
    /// the change means for the other invariants.
    pub(crate) fn observe_record(&mut self) -> Checked {
        let Some(new) = self.coordinator.record().cloned() else { return Ok(()) };
        let old = self.observed.record.clone();
        let now = self.now;
        self.trace.note(now, || format!("record {}", of_record(&new)));
        if self.observed.contradicted.is_some_and(|back_to| new.generation <= back_to) {
            // The coordinator shows, or changes, what is no longer true.
            return Ok(());
        }
        // What began after what was restored is new, whatever an acceptance that the restore undid has come to.
        let begins = self.observed.contradicted.is_some() || new.generation > old.generation;
        if let Err(error) = new.check() {
            return Violation::of("record", format!("{error}: {}", of_record(&new)));
        }
        let led = (new.leader, new.leader_boot);
        let same_epoch_new_leader =
            new.epoch == old.epoch && new.leader.is_some() && led != (old.leader, old.leader_boot);
        let goes_back = new.epoch < old.epoch || new.generation < old.generation;
        if (goes_back && self.observed.contradicted.is_none()) || same_epoch_new_leader {
            return Violation::of(
                "I7",
                format!("the record {} becomes {}", of_record(&old), of_record(&new)),
            );
        }
        self.count_change(&old, &new);
        let held = new.isr.len() + new.elr.len();
        // An accepted history counts on its first leader's copy only. Others may hold as much, but nobody knows.
        let demands_more = new.min_isr > old.min_isr || begins;
        self.observed.raised = (self.observed.raised || demands_more) && held < new.min_isr as usize;
        self.observed.disk_changed = true;
        self.observed.record = new;
        if begins {
            self.begin_generation()?;
        }
        self.eligible_members_hold_what_is_committed()?;
        self.enough_copies_are_eligible()
    }

    fn count_change(&mut self, old: &GroupRecord, new: &GroupRecord) {
        let committed = self.oracle.reference.last().epoch;
        let elected = new.epoch > old.epoch;
        let deposed = elected && old.leader.is_some_and(|leader| new.leader != Some(leader));
        self.coverage.count_if(deposed, Seldom::Failover);
        let again = deposed && old.epoch > committed && old.epoch.0 > 1 && new.generation == old.generation;
        self.coverage.count_if(again, Seldom::DoubleFailover);
        let node_of =
            |record: &GroupRecord| record.members.iter().map(|member| member.node).collect::<Vec<_>>();
        self.coverage.count_if(new.members.len() > old.members.len(), Seldom::MemberAdded);
        self.coverage.count_if(node_of(new).len() < node_of(old).len(), Seldom::MemberRemoved);
        self.coverage.count_if(new.min_isr != old.min_isr, Seldom::MinIsrChanged);
        self.coverage.count_if(!new.can_commit(), Seldom::BelowMinIsr);
        let fetching = self.nodes.iter().filter_map(|node| node.alive());
        let fetching = fetching.filter(|process| process.fetching).count() > 0;
        self.coverage.count_if(deposed && fetching, Seldom::SnapshotDuringFailover);
    }

    /// A new history begins with what its first leader has. Only an unclean start may give up anything.
    fn begin_generation(&mut self) -> Checked {
        let record = &self.observed.record;
        let Some(leader) = record.leader else {
            return Violation::of("record", format!("a generation without a leader: {}", of_record(record)));
        };
        self.observed.contradicted = None;
        let log = &self.node(leader).disk.durable;
        let end = self.oracle.reference.last().index.min(log.last().index);
        let shared =
            |index: &u64| self.oracle.reference.position(LogIndex(*index)).is_some_and(|at| log.holds(at));
        let kept = LogIndex((0..=end.0).rev().find(shared).unwrap_or(0));
        if self.operator.survivor.take_if(|survivor| *survivor == leader).is_none() {
            self.coverage.count(Seldom::Accepted);
            if kept < self.oracle.reference.last().index {
                let what =
                    format!("a new generation without loss is begun by node {leader}, which has {kept} only");
                return Violation::of("I4", what);
            }
            return Ok(());
        }
        if kept < self.oracle.reference.last().index {
            self.observed.cut = self.observed.record.generation;
        }
        self.restart_clients();
        let lost = self.oracle.cut(kept)?;
        self.coverage.count_if(lost > 0, Seldom::AcknowledgedGivenUp);
        Ok(())
    }
}
