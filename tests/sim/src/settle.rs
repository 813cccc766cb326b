//! What has to be true when nothing goes wrong any more.

use mortise_core::group::MemberKind;
use mortise_core::replica::RoleKind;

use crate::world::{Checked, Process, Violation, World};

/// How long a healed group has to come to rest, in units: several elections, a snapshot, every outstanding question.
const PATIENCE: u64 = 80;

impl World {
    /// **I15.** After healing there is one leader, isr = voters, nothing acknowledged is missing, and all replicas
    /// are equal: within a bounded time.
    pub(crate) fn settles(&mut self) -> Checked {
        self.heal();
        self.run_until(self.now + 2 * self.unit)?;
        self.quiet = true;
        let end = self.now + PATIENCE * self.unit;
        while let Some(why) = self.unsettled() {
            if self.now >= end {
                return Violation::of("I15", format!("the healed group does not come to rest: {why}"));
            }
            self.run_until(self.now + self.unit / 4)?;
        }
        self.oracle.nothing_is_missing()
    }

    /// What is still missing for the group to be at rest.
    fn unsettled(&self) -> Option<String> {
        let record = &self.observed.record;
        let wanting = |what: String| Some(format!("{what}: {}", crate::trace::of_record(record)));
        if self.observed.contradicted.is_some() || self.operator.survivor.is_some() {
            return wanting("no operator has decided yet".into());
        }
        let leads = |process: &&Process| process.view.role == RoleKind::Leader;
        let leaders = self.nodes.iter().filter_map(|node| node.alive()).filter(leads).count();
        let leader = record.leader.and_then(|leader| self.node(leader).alive());
        let Some(leader) = leader.filter(|leader| leader.view.serving && leaders == 1) else {
            return wanting(format!("{leaders} leaders, or the one in the record does not serve"));
        };
        if record
            .members
            .iter()
            .any(|member| member.kind == MemberKind::Learner || !record.isr.contains(&member.node))
        {
            return wanting("not every member is in sync".into());
        }
        for member in &record.members {
            let Some(process) = self.node(member.node).alive() else {
                return wanting(format!("node {} does not run", member.node));
            };
            let view = &process.view;
            if view.frozen || view.quarantined.is_some() || !view.established {
                return wanting(format!("node {} is out of service", member.node));
            }
            let all = leader.view.last.index;
            if view.commit != all || process.machine.at.index != all || view.applied != all {
                return wanting(format!("node {} has {} of {all}", member.node, process.machine.at.index));
            }
            let digest = self.oracle.reference.digest(all);
            if digest != Some(process.machine.digest) && !process.machine.differs_unseen() {
                return wanting(format!("node {}'s state is not the group's", member.node));
            }
        }
        let busy = self.clients.iter().filter(|client| !client.is_idle()).count();
        if busy > 0 { wanting(format!("{busy} clients wait")) } else { None }
    }
}
