//! The replica's side of the coordinator: what it showed, what was asked of it, and whether it can be believed.

mod observe;
mod sets;

pub(super) use self::observe::FROZEN;
use self::sets::{Sets, named};
use super::contradiction::Floor;
use super::effect::{CoordinatorRequest, Effect};
use super::event::{MonoTime, RequestId, Seen};
use super::mutants::Mutant;
use super::shared::Shared;
use crate::group::{GroupRecord, LeaseId, NodeId, Nonce};

/// What a swap is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// This node is to lead.
    Elect,
    /// This node is to lead, asked to by the leader.
    TakeOver,
    /// Members leave the in-sync set.
    Shrink,
    /// Members join it.
    Expand,
    /// The leader goes on under a new lease.
    Readopt,
    /// This copy goes on under a new incarnation.
    Renew,
    /// An operator asked for it.
    Operator(RequestId),
    /// An operator asked for the start of a new history with what this node has.
    Unclean(RequestId),
    /// An operator asked for a new history that goes on from the newest record.
    Accept(RequestId),
}

impl Purpose {
    /// The operator's request that it answers.
    fn request(self) -> Option<RequestId> {
        match self {
            Self::Operator(id) | Self::Unclean(id) | Self::Accept(id) => Some(id),
            _ => None,
        }
    }

    /// Whether a new history begins with it: that is an operator's decision, which a frozen node carries out, too.
    pub(super) fn begins_anew(self) -> bool {
        matches!(self, Self::Unclean(_) | Self::Accept(_))
    }
}

/// A swap whose end is not known. There is at most one, and until a higher revision is read it may be applied at any
/// time: asked for again, it is the same swap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Swap {
    pub(super) purpose: Purpose,
    pub(super) record: GroupRecord,
    expected: Option<(u64, Nonce)>,
    /// What was known when it was sent: an answer cannot be older.
    floor: Floor,
    /// No answer came; ask again from then on.
    retry_at: Option<MonoTime>,
    /// At least one attempt went without an answer.
    was_unknown: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PendingRead {
    request: u64,
    floor: Floor,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Coordination {
    pub(super) lease: Option<LeaseId>,
    pub(super) candidates: Vec<NodeId>,
    candidacy: bool,
    pub(super) swap: Option<Swap>,
    /// What swaps asked for that an operator's wish has overtaken: as long as no newer record was read, nobody knows what
    /// became of them.
    pub(super) overtaken: Sets,
    read: Option<PendingRead>,
    /// A read of the record is wanted as soon as one may be sent.
    read_wanted: bool,
    read_again_at: MonoTime,
    /// The record was read, not only watched, since this process started.
    pub(super) was_read: bool,
    /// A process before this one asked to lead, and no record shows what came of it: that may be applied until a newer
    /// record is read.
    pub(super) asked_before: bool,
    /// When the known record was first seen.
    pub(super) record_since: MonoTime,
    /// The last answer, believed or not.
    pub(super) latest: Option<Seen>,
    requests: u64,
    nonces: u64,
}

impl Coordination {
    pub(super) fn new(asked_before: bool) -> Self {
        Self {
            lease: None,
            candidates: Vec::new(),
            candidacy: false,
            swap: None,
            overtaken: Sets::default(),
            read: None,
            read_wanted: true,
            read_again_at: MonoTime(0),
            was_read: false,
            asked_before,
            record_since: MonoTime(0),
            latest: None,
            requests: 0,
            nonces: 0,
        }
    }

    /// Asks for the record to be read again, soon.
    pub(super) fn want_read(&mut self) {
        self.read_wanted = true;
    }
}

impl Shared {
    /// A number that names one write of the record: the process's random number, stepped by a counter (the finaliser
    /// of SplitMix64 keeps it a bijection, so that one process never repeats itself).
    pub(super) fn nonce(&mut self) -> Nonce {
        self.coordination.nonces += 1;
        let mut mixed =
            self.options.seed.wrapping_add(self.coordination.nonces.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Nonce(mixed ^ (mixed >> 31))
    }

    /// Whether a swap may be asked for now.
    pub(super) fn may_swap(&self) -> bool {
        let coordination = &self.coordination;
        coordination.swap.is_none() && coordination.lease.is_some() && !self.hard.frozen
    }

    /// Asks the coordinator to replace the record that is known by `record`.
    pub(super) fn swap(&mut self, purpose: Purpose, record: GroupRecord) {
        let expected = self.hard.seen.as_ref().and_then(Seen::expectation);
        self.swap_expecting(purpose, expected, record);
    }

    pub(super) fn swap_expecting(
        &mut self,
        purpose: Purpose,
        expected: Option<(u64, Nonce)>,
        mut record: GroupRecord,
    ) {
        self.mutate(&mut record);
        let floor = self.floor();
        let request = CoordinatorRequest::Swap { expected, record: record.clone() };
        if record.epoch > self.hard.promised.epoch {
            self.hard.asked = self.hard.asked.max(record.epoch);
            self.save();
            self.held.push_back((self.saved, Effect::Coordinate(request)));
        } else {
            self.effects.push(Effect::Coordinate(request));
        }
        self.coordination.swap =
            Some(Swap { purpose, record, expected, floor, retry_at: None, was_unknown: false });
    }

    /// What the coordinator shows at present. Whoever is frozen does not believe the last answer; for others a late one may be
    /// older than what they know.
    pub(super) fn shown(&self) -> Option<&Seen> {
        if self.hard.frozen { self.coordination.latest.as_ref() } else { self.hard.seen.as_ref() }
    }

    /// A swap that waits for its epoch to be saved is not asked for any more: it was decided on what is no longer so.
    /// Returns whether there was one.
    fn unask(&mut self) -> bool {
        let before = self.held.len();
        self.held.retain(|(_, effect)| !matches!(effect, Effect::Coordinate(_)));
        self.held.len() < before
    }

    /// The swap under way is not asked for any more; whoever wished for it is told `why`. Once it was asked for it may have
    /// been applied: a leader goes on counting with it.
    pub(super) fn overtake_swap(&mut self, why: &str) {
        let Some(Swap { record, purpose, .. }) = self.coordination.swap.take() else { return };
        if !self.unask() {
            self.coordination.overtaken.isr.extend(named(&record, &record.isr));
            self.coordination.overtaken.elr.extend(named(&record, &record.elr));
        }
        if let Some(id) = purpose.request() {
            self.effects.push(Effect::Operator { id, result: Err(why.to_string()) });
        }
    }

    /// Breaks the rules of who is eligible, where a test wants that.
    fn mutate(&self, record: &mut GroupRecord) {
        if self.breaks(Mutant::TransferOutsideIsr)
            && let Some(leader) = record.leader
        {
            record.isr.insert(leader);
            record.elr.remove(&leader);
        }
        if self.breaks(Mutant::ElrDropped) {
            record.elr.clear();
        }
        if self.breaks(Mutant::ElrKept)
            && let Some(known) = self.record()
        {
            record.elr =
                known.isr.union(&known.elr).filter(|node| !record.isr.contains(node)).copied().collect();
            record.elr.retain(|node| record.members.iter().any(|member| member.node == *node));
        }
    }

    /// An answer to a request that is sent now contradicts what is known if it is below this.
    fn floor(&self) -> Floor {
        let seen = self.hard.seen.as_ref();
        seen.map_or(Floor::default(), |seen| Floor {
            coordinator: Some(seen.coordinator),
            revision: seen.revision,
        })
    }

    /// Sends what is due: a read of the record, a swap without an answer, the candidacy.
    pub(super) fn ask_coordinator(&mut self) {
        let (now, retry, floor) = (self.now, self.options.retry, self.floor());
        let coordination = &mut self.coordination;
        if (coordination.read_wanted || now >= coordination.read_again_at.after(self.options.reread))
            && coordination.read.is_none()
            && now >= coordination.read_again_at
        {
            coordination.requests += 1;
            coordination.read_wanted = false;
            coordination.read_again_at = now.after(retry);
            let request = coordination.requests;
            coordination.read = Some(PendingRead { request, floor });
            self.effects.push(Effect::Coordinate(CoordinatorRequest::Read { request }));
        }
        let (has_lease, frozen) = (coordination.lease.is_some(), self.hard.frozen);
        let may_ask = |swap: &&mut Swap| has_lease && (!frozen || swap.purpose.begins_anew());
        if let Some(swap) = coordination.swap.as_mut().filter(may_ask)
            && swap.retry_at.take_if(|at| *at <= now).is_some()
        {
            swap.floor = floor;
            let (expected, record) = (swap.expected, swap.record.clone());
            self.effects.push(Effect::Coordinate(CoordinatorRequest::Swap { expected, record }));
        }
        self.tell_candidacy();
    }

    fn tell_candidacy(&mut self) {
        let eligible = self.record().is_some_and(|record| record.is_eligible(self.me()));
        let wanted = eligible
            && self.is_established()
            && self.coordination.lease.is_some()
            && self.hard.quarantined.is_none();
        if wanted != self.coordination.candidacy {
            self.coordination.candidacy = wanted;
            self.effects.push(Effect::Coordinate(CoordinatorRequest::Candidacy(wanted)));
        }
    }
}
