//! Leading an empty group: the first candidate whose predecessor is gone takes over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mortise_coordination::{
    Change, CoordinationError, Coordinator, Expected, GroupState, Interest, SwapOutcome, new_nonce,
};
use mortise_core::group::{BootId, GroupRecord, Incarnation, NodeId};
use mortise_core::ids::{Epoch, GroupId};

/// Without any change, it is looked again after this long: a swap may have failed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who campaigns, and for what.
pub(crate) struct Me {
    pub(crate) node: NodeId,
    pub(crate) boot: BootId,
    pub(crate) group: GroupId,
    pub(crate) members: Vec<NodeId>,
}

/// Runs until the process ends.
pub(crate) async fn run(coordinator: Arc<dyn Coordinator>, me: Me) {
    let mut changes = coordinator.changes(Interest::Group(me.group));
    let mut state = None;
    loop {
        if let Ok(change) = tokio::time::timeout(LOOK_EVERY, changes.next()).await {
            match change {
                Change::Group(_, newer) => state = Some(newer),
                _ => continue,
            }
        }
        let Some(state) = &state else { continue };
        match me.act(&*coordinator, state).await {
            Ok(None | Some(SwapOutcome::Refused(_))) => {}
            Ok(Some(SwapOutcome::Applied(seen))) => {
                let isr = seen.record.iter().flat_map(|record| &record.isr);
                let nodes: Vec<String> = isr.map(NodeId::to_string).collect();
                println!("swap applied at revision {}; in sync: {}", seen.mod_revision, nodes.join(" "));
            }
            // The watch will tell what became of it.
            Ok(Some(SwapOutcome::Unknown)) => println!("a swap's outcome is unknown"),
            Err(CoordinationError::NoSession) => {}
            Err(error) => println!("no swap: {error}"),
        }
    }
}

impl Me {
    /// Asks for the swap that the state calls for, if any.
    async fn act(
        &self,
        coordinator: &dyn Coordinator,
        state: &GroupState,
    ) -> Result<Option<SwapOutcome<GroupRecord>>, CoordinationError> {
        let Ok(seen) = &state.record else { return Ok(None) };
        let Some(record) = &seen.record else {
            // Only a group that never was is created; one that was deleted is an operator's business.
            if seen.mod_revision.0 > 0 {
                return Ok(None);
            }
            // There are no stores to be listed by their numbers: the nodes' own do.
            let voters: Vec<_> = self.members.iter().map(|node| (*node, Incarnation(node.0))).collect();
            let record = GroupRecord::create(seen.cluster.0, &voters, 1, new_nonce()?)?;
            return coordinator.swap_group(self.group, Expected::Absent, record).await.map(Some);
        };
        let Some(lease) = coordinator.session().live() else { return Ok(None) };
        let expected = Expected::Present { mod_revision: seen.mod_revision, nonce: record.nonce };
        let next = if record.leader == Some(self.node) && record.leader_boot == self.boot {
            let alive = state.sessions.keys().copied();
            // There is no data, so whoever lives misses nothing.
            let joined: BTreeSet<NodeId> = alive.filter(|node| !record.isr.contains(node)).collect();
            (!joined.is_empty()).then(|| new_nonce().map(|nonce| record.expand(&joined, nonce)))
        } else {
            let epoch = Epoch(record.epoch.0 + 1);
            self.is_next(state, record)
                .then(|| new_nonce().map(|nonce| record.elect(self.node, epoch, self.boot, lease, nonce)))
        };
        match next.transpose()? {
            Some(next) => coordinator.swap_group(self.group, expected, next).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether the leader is gone, and this is the first candidate that may follow.
    fn is_next(&self, state: &GroupState, record: &GroupRecord) -> bool {
        let leads =
            |leader: NodeId| state.sessions.get(&leader).is_some_and(|s| s.boot == record.leader_boot);
        let mut eligible = state.candidates.iter().filter(|candidate| record.is_eligible(candidate.node));
        let first = eligible.next();
        !record.leader.is_some_and(leads)
            && first.is_some_and(|first| first.node == self.node && first.boot == self.boot)
    }
}
