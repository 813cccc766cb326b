//! Commands of an operator: who carries them out, and the two that no leader can, which start a history anew.

use super::coordination::Purpose;
use super::effect::{Effect, Refusal};
use super::event::{Memory, OperatorCommand, RequestId, Seen};
use super::follower::Follower;
use super::shared::Shared;
use super::{Replica, Role};
use crate::group::{Generation, GroupRecord, Member, MemberKind, NodeId, Nonce, RecordError};
use crate::ids::Epoch;

/// What a swap expects: revision and nonce of the record that it replaces.
type Expected = Option<(u64, Nonce)>;

impl Replica {
    pub(super) fn on_operator(&mut self, id: RequestId, command: OperatorCommand) {
        let (refusal, own) = (self.not_leader(), self.memory());
        let shared = &mut self.shared;
        match (&mut self.role, command) {
            (Role::Leader(leader), OperatorCommand::Transfer(target)) => leader.hand_over(shared, id, target),
            (Role::Follower(follower), OperatorCommand::UncleanStart) => shared.unclean_start(follower, id),
            (Role::Follower(follower), OperatorCommand::AcceptCoordinator { .. })
                if follower.hears_leader(shared) =>
            {
                let why = "the group has a leader that is alive: ask that node, or stop it".to_string();
                shared.effects.push(Effect::Operator { id, result: Err(why) });
            }
            (_, OperatorCommand::AcceptCoordinator { heard, gone }) => {
                shared.accept_coordinator(id, own, &heard, &gone);
            }
            (Role::Leader(_), OperatorCommand::UncleanStart) => {
                let why = "this node leads: there is nothing to start".to_string();
                shared.effects.push(Effect::Operator { id, result: Err(why) });
            }
            (Role::Leader(leader), command) => leader.wish(shared, id, command),
            _ => {
                let why = match refusal {
                    Refusal::NotLeader { leader: Some(leader) } => {
                        format!("this node does not lead: ask node {leader}")
                    }
                    _ => "this node does not lead, and knows of no leader: try again soon".to_string(),
                };
                shared.effects.push(Effect::Operator { id, result: Err(why) });
            }
        }
    }
}

impl Shared {
    /// Everybody else who held committed entries is gone for good: this node goes on with what it has.
    pub(super) fn unclean_start(&mut self, follower: &Follower, id: RequestId) {
        match self.started_anew(follower) {
            Err(why) => self.effects.push(Effect::Operator { id, result: Err(why) }),
            Ok((record, expected)) => {
                self.overtake_swap("an unclean start came in between: look at the group, and ask again");
                self.swap_expecting(Purpose::Unclean(id), expected, record);
            }
        }
    }

    /// The record that an unclean start begins with, and what it takes the place of.
    fn started_anew(&mut self, follower: &Follower) -> Result<(GroupRecord, Expected), String> {
        if follower.hears_leader(self) {
            return Err("the group has a leader that is alive".to_string());
        }
        let lease =
            self.coordination.lease.ok_or("this node has no session with the coordinator: try again")?;
        if !self.hard.frozen && self.coordination.swap.is_some() {
            return Err("a change is under way: try again".to_string());
        }
        let known =
            self.record().filter(|record| record.member(self.me()).is_some() && self.is_established());
        let known =
            known.ok_or("this node is no member of the group, or its copy has no incarnation yet")?.clone();
        let latest = self.shown().cloned().ok_or("the coordinator has not answered yet: try again")?;
        let recorded = latest.record.as_ref().map_or(Epoch(0), |record| record.epoch);
        let epoch = known.epoch.max(self.hard.highest_epoch()).max(recorded);
        let (me, boot, nonce) = (self.me(), self.options.boot, self.nonce());
        if !self.hard.frozen {
            return Ok((known.unclean_start(me, epoch.next(), boot, lease, nonce), latest.expectation()));
        }
        if let Some(leader) = latest.record.as_ref().and_then(|record| record.leader)
            && leader != me
            && !latest.is_restored()
        {
            return Err(format!("node {leader} leads by the coordinator's record: ask that node"));
        }
        let record = known.unclean_start(me, beyond(epoch, nonce), boot, lease, nonce);
        Ok((begun_with(record, &latest), latest.expectation()))
    }

    /// The coordinator was wiped or restored. Builds on the newest record that any member remembers, and begins a new
    /// history under an epoch that nobody has ever promised.
    pub(super) fn accept_coordinator(
        &mut self,
        id: RequestId,
        own: Memory,
        heard: &[Memory],
        gone: &[NodeId],
    ) {
        match self.rebuilt(own, heard, gone) {
            Err(why) => self.effects.push(Effect::Operator { id, result: Err(why) }),
            Ok((record, expected)) => {
                // The new history fences what the coordinator did with a swap before; until it has begun, it counts.
                self.overtake_swap(
                    "an acceptance of the coordinator came in between: look at the group, and ask again",
                );
                self.swap_expecting(Purpose::Accept(id), expected, record);
            }
        }
    }

    /// The record that the new history begins with, and what it takes the place of.
    fn rebuilt(
        &mut self,
        own: Memory,
        heard: &[Memory],
        gone: &[NodeId],
    ) -> Result<(GroupRecord, Expected), String> {
        let lease = self.coordination.lease.ok_or(
            "this node does not reach the coordinator: mend that, or stop it and declare it gone for good",
        )?;
        if self.is_installing() {
            return Err("this node installs a snapshot: try again soon".to_string());
        }
        let latest = self.shown().cloned().ok_or("the coordinator has not answered yet: try again")?;
        let leader = latest.record.as_ref().and_then(|record| record.leader);
        let believes = |memory: &Memory| believes(memory, &latest);
        if !self.hard.frozen {
            // Whom the record names may accept it for others who froze, and will not believe it by themselves.
            self.coordination.want_read();
            let is_named = leader == Some(own.node) && self.coordination.was_read;
            if !is_named || heard.iter().all(believes) {
                return Err("the coordinator has not contradicted what this node knows: there is nothing to accept. It is \
                            read again now: where other nodes are frozen, try again"
                    .to_string());
            }
            // But who remembers a later generation has a history that this one lacks.
            let shown = latest.record.as_ref().map(|record| record.generation);
            let generation = |memory: &Memory| Some(memory.seen.as_ref()?.record.as_ref()?.generation);
            if let Some(later) = heard.iter().find(|memory| generation(memory) > shown) {
                let (node, me) = (later.node, own.node);
                return Err(format!(
                    "node {node} remembers a later history than the coordinator shows: stop node {me}, declare it gone \
                     for good, and accept on node {node}"
                ));
            }
        }
        // A leader that believes the present record has a newer history, or just lost its disk and asks for a new life.
        if let Some(leader) = leader
            && heard.iter().any(|memory| memory.node == leader && memory.seen.is_some() && believes(memory))
        {
            return Err(format!(
                "node {leader} leads by the coordinator's record, which contradicts only what this node remembers: try \
                 again soon, or ask that node; and a node that was declared gone for good comes back with an empty disk only"
            ));
        }
        let memories: Vec<&Memory> = heard.iter().chain([&own]).collect();
        let newest = newest(&memories).ok_or("no member remembers a record")?;
        check_heard(&newest, &memories, gone)?;
        check_furthest(&newest, &own, &memories)?;
        let recorded = latest.record.as_ref().map_or(Epoch(0), |record| record.epoch);
        let known = memories.iter().map(|memory| memory.epoch).max().unwrap_or_default();
        let epoch = newest.epoch.max(recorded).max(known);
        let (me, boot, nonce) = (self.me(), self.options.boot, self.nonce());
        let record = newest.begin_anew(me, beyond(epoch, nonce), boot, lease, nonce);
        let record = begun_with(record, &latest);
        record.check().map_err(|RecordError(why)| format!("what the members remember cannot be: {why}"))?;
        Ok((record, latest.expectation()))
    }
}

/// The record of a history that begins with the coordinator that shows `latest`, and not with the one before it.
fn begun_with(mut record: GroupRecord, latest: &Seen) -> GroupRecord {
    let shown = latest.record.as_ref().map_or(Generation(0), |record| record.generation);
    record.generation = record.generation.max(Generation(shown.0.saturating_add(1)));
    record.coordinator = latest.coordinator;
    record
}

/// The first epoch of such a history, above all that is known. Whoever led may have lost its copy, the coordinator its
/// records, and nobody else have heard of it; but its tokens are out there, and a token of an epoch must not name an entry of
/// another history. So this is more than the leaderships that can have left no trace; and of a history whose very acceptance
/// left none, the next one is apart by chance.
fn beyond(known: Epoch, nonce: Nonce) -> Epoch {
    Epoch(known.0.saturating_add(UNHEARD_EPOCHS_MAX * (1 + nonce.0 % JUMPS)))
}

/// More leaderships than can go by unheard: one a second for a day.
const UNHEARD_EPOCHS_MAX: u64 = 100_000;

/// So many jumps are equally probable. Even ten thousand acceptances stay below 2^53, which JSON holds exactly.
const JUMPS: u64 = 1_000_000;

/// Whether a node believes `latest`, or will as soon as it reads it. Who is frozen believes the beginning of a newer
/// history only, whoever shows what else.
fn believes(memory: &Memory, latest: &Seen) -> bool {
    if latest.is_restored() {
        return false;
    }
    let Some(seen) = &memory.seen else { return true };
    let begins_anew = match (&latest.record, &seen.record) {
        (Some(latest), Some(seen)) => latest.generation > seen.generation && latest.epoch > seen.epoch,
        _ => false,
    };
    let goes_on = latest.coordinator == seen.coordinator && latest.mod_revision >= seen.mod_revision;
    begins_anew || (goes_on && !memory.frozen)
}

/// The newest record that anybody remembers. Newer ones may be forgotten: a record counts when it is read, and is durable
/// with its readers a little later.
fn newest(memories: &[&Memory]) -> Option<GroupRecord> {
    let age = |seen: &Seen| {
        let record = seen.record.as_ref()?;
        Some((record.generation, record.epoch, seen.mod_revision))
    };
    let newest = memories.iter().filter_map(|memory| memory.seen.as_ref()).max_by_key(|seen| age(seen));
    newest.and_then(|seen| seen.record.clone())
}

/// Whether so many were heard that one of them holds all that is committed, unless its copy was lost. Everybody who is not
/// gone has to be heard: a forgotten record may have made a voter of a learner.
fn check_heard(newest: &GroupRecord, memories: &[&Memory], gone: &[NodeId]) -> Result<(), String> {
    let is_heard = |member: &Member| memories.iter().any(|memory| memory.node == member.node);
    let voters = newest.members.iter().filter(|member| member.kind == MemberKind::Voter);
    let (voters, counted) = (voters.clone().count(), voters.filter(|member| is_heard(member)).count());
    let needed = (voters + 1).saturating_sub(newest.min_isr as usize);
    if counted < needed {
        return Err(format!(
            "{counted} of {voters} voters were heard, and {needed} are needed to know what is committed"
        ));
    }
    match newest.members.iter().find(|member| !is_heard(member) && !gone.contains(&member.node)) {
        Some(Member { node, .. }) => {
            Err(format!("node {node} was not heard: bring it back, or declare it gone for good"))
        }
        None => Ok(()),
    }
}

/// Whether this node's log is the furthest of all copies that count. Then it holds what is committed, because one of them
/// does: see `PROTOCOL.md`. A state that differs does not matter: the log is what goes on, and whoever is quarantined
/// will not lead.
fn check_furthest(newest: &GroupRecord, own: &Memory, memories: &[&Memory]) -> Result<(), String> {
    // Of what a copy held before it was lost nothing is sure: it neither stands for anybody, nor in anybody's way.
    let reach = |memory: &Memory| {
        let listed = newest.member(memory.node)?.incarnation;
        memory.reach.filter(|reach| reach.incarnation == listed).map(|reach| reach.last)
    };
    let me = own.node;
    let furthest = memories.iter().max_by_key(|memory| (reach(memory), memory.node == me));
    let holds_all = memories.iter().any(|memory| newest.is_eligible(memory.node) && reach(memory).is_some());
    if !holds_all {
        let able: Vec<String> = newest.isr.union(&newest.elr).map(ToString::to_string).collect();
        return Err(format!(
            "node {me} may miss acknowledged writes: bring back one of nodes {}",
            able.join(", ")
        ));
    }
    match furthest {
        Some(furthest) if furthest.node != me => Err(format!(
            "node {me} may miss acknowledged writes: ask node {}, whose log is further",
            furthest.node
        )),
        _ => Ok(()),
    }
}
