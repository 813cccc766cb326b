//! What a follower does as time passes: it waits for its leader, and has itself elected when that falls silent.

use super::Follower;
use crate::group::NodeId;
use crate::ids::Epoch;
use crate::replica::coordination::Purpose;
use crate::replica::effect::Rare;
use crate::replica::mutants::Mutant;
use crate::replica::shared::Shared;

impl Follower {
    pub(in crate::replica) fn on_tick(&mut self, shared: &mut Shared) {
        shared.establish();
        self.take_over(shared);
        if self.may_be_elected(shared) {
            self.elect(shared);
        }
        self.ask_commit(shared);
    }

    /// Whether a swap may be under way that makes this replica the leader.
    pub(super) fn is_electing(&self, shared: &Shared) -> bool {
        let swap = shared.coordination.swap.as_ref();
        swap.is_some_and(|swap| {
            matches!(
                swap.purpose,
                Purpose::Elect | Purpose::TakeOver | Purpose::Unclean(_) | Purpose::Accept(_)
            )
        })
    }

    /// Has itself elected as the leader asked. The swap is refused unless the record is the one looked at here.
    fn take_over(&mut self, shared: &mut Shared) {
        let Some((epoch, leader)) = self.campaign else { return };
        let Some(record) = shared.record() else { return };
        let in_sync = record.isr.contains(&shared.me()) || shared.breaks(Mutant::TransferOutsideIsr);
        let stands = record.leader == Some(leader) && record.epoch == epoch && in_sync;
        if !stands || shared.hard.quarantined.is_some() || !shared.is_established() {
            self.campaign = None;
            return;
        }
        if shared.may_swap() {
            self.campaign = None;
            let (next, nonce) = (self.next_epoch(shared), shared.nonce());
            let (me, boot) = (shared.me(), shared.options.boot);
            let lease = shared.coordination.lease.unwrap_or_default();
            if let Some(record) = shared.record().map(|record| record.transfer(me, next, boot, lease, nonce))
            {
                shared.swap(Purpose::TakeOver, record);
            }
        }
    }

    fn may_be_elected(&self, shared: &Shared) -> bool {
        let Some(record) = shared.record() else { return false };
        let me = shared.me();
        let eligible = record.is_eligible(me) || shared.breaks(Mutant::ElectStale);
        if !eligible || !shared.is_established() || !shared.may_swap() || shared.hard.quarantined.is_some() {
            return false;
        }
        if record.leader == Some(me) {
            // Nobody else can lead this epoch. If an earlier process of this node did, it is gone.
            return record.leader_boot != shared.options.boot;
        }
        let gone = record.leader.is_some_and(|leader| !shared.coordination.candidates.contains(&leader));
        if gone && shared.breaks(Mutant::SessionDeposes) {
            return true;
        }
        let options = &shared.options;
        let silent_since = match record.leader {
            Some(_) => self.heard.max(shared.booted).after(options.grace),
            // There is nobody to be silent.
            None => shared.coordination.record_since.max(shared.booted),
        };
        let turn = silent_since.after(options.beacon.saturating_mul(self.rank(shared)));
        // What was granted before a restart is not remembered.
        let forgotten = shared.booted.after(options.lease + options.lease_margin);
        let no_lease =
            shared.now >= shared.lease_granted_until && (shared.now >= forgotten || record.epoch == Epoch(0));
        shared.now >= turn && no_lease
    }

    /// How many candidates go first: the in-sync ones before the eligible ones, each by age of its candidacy.
    fn rank(&self, shared: &Shared) -> u64 {
        let Some(record) = shared.record() else { return 0 };
        let me = shared.me();
        let candidates = &shared.coordination.candidates;
        let place = |node: NodeId| {
            let listed = candidates.iter().position(|candidate| *candidate == node);
            (!record.isr.contains(&node), listed.unwrap_or(candidates.len()), node)
        };
        let others = candidates.iter().filter(|node| **node != me && record.leader != Some(**node));
        others.filter(|node| record.is_eligible(**node) && place(**node) < place(me)).count() as u64
    }

    fn next_epoch(&self, shared: &Shared) -> Epoch {
        let recorded = shared.record().map_or(Epoch(0), |record| record.epoch);
        recorded.max(shared.hard.promised.epoch).next()
    }

    fn elect(&self, shared: &mut Shared) {
        let (epoch, nonce) = (self.next_epoch(shared), shared.nonce());
        let (me, boot) = (shared.me(), shared.options.boot);
        let Some(lease) = shared.coordination.lease else { return };
        let Some(record) = shared.record() else { return };
        let from_elr = record.elr.contains(&me);
        let record = record.elect(me, epoch, boot, lease, nonce);
        if from_elr {
            shared.happened(Rare::ElectedFromElr);
        }
        shared.swap(Purpose::Elect, record);
    }

    /// Whether the leader was heard so recently that it must be taken to be alive.
    pub(in crate::replica) fn hears_leader(&self, shared: &Shared) -> bool {
        let led = shared.hard.promised.leader.is_some_and(|leader| leader != shared.me());
        led && shared.now.since(self.heard) < shared.options.grace && self.heard > shared.booted
    }
}
