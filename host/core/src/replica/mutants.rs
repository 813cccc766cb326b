//! Rules of the protocol that a test build can put out of force, one at a time, to prove that the simulator or the
//! model notices. A build without the feature `mutants` keeps every rule.

/// A rule that is broken. The number is the trap's in `PROTOCOL.md`, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// 1: a leader commits with the smaller set as soon as it has asked for it.
    CommitBeforeShrink,
    /// 1: a set that was asked for counts only when the answer is there.
    RaiseSetsOnAnswer,
    /// 2: reading the same revision again is taken for a refusal of the swap.
    SameRevisionRefuses,
    /// 4: who leaves a set that is too small is not eligible.
    ElrDropped,
    /// 4: who left a set that is large enough stays eligible.
    ElrKept,
    /// 5: a lost copy goes on under its old incarnation.
    LostCopyKeepsIncarnation,
    /// 6: a node outside isr and elr has itself elected.
    ElectStale,
    /// 7: a follower truncates to what it knows to be committed, and counts as matched.
    TruncateToCommit,
    /// 7: one round of matching is enough.
    MatchOnce,
    /// 8: a follower joins the in-sync set whatever it holds.
    ExpandStale,
    /// 9: acknowledgements of an earlier leadership count.
    AcksFromBefore,
    /// 12: a leader whose session is gone is deposed although its beacons arrive.
    SessionDeposes,
    /// 18: an answer's epoch, stream and incarnation are not looked at.
    AnswersUnfenced,
    /// 19: an older record is believed.
    NeverFreeze,
    /// An opened stream counts as an acknowledgement.
    OpenAcknowledges,
    /// 3: an append is acknowledged before it is durable.
    AcknowledgeBeforeFsync,
    /// A leader commits what it has on its own disk, whatever the others have.
    CommitAlone,
    /// A message is answered before its epoch's promise is durable.
    AnswerBeforePromise,
    /// A read is served without asking anybody whether the leader still leads.
    ReadUnconfirmed,
    /// A read is confirmed by the in-sync set alone.
    ConfirmByIsr,
    /// The target of a hand-over does not look whether it is in sync.
    TransferOutsideIsr,
    /// A truncated write is called lost at once, by whoever truncates.
    LostOnTruncation,
    /// A leader calls a token of a higher epoch lost.
    LostBelowEpoch,
    /// A leader decides tokens before its epoch-start entry is committed.
    LostBeforeStart,
    /// A lease runs from when the answer arrived.
    LeaseFromAnswer,
    /// A follower that has asked to be elected goes on granting leases.
    LeaseWhileElecting,
    /// A leader serves before its epoch-start entry is committed.
    ServeBeforeStart,
    /// An entry of an earlier epoch is committed by counting (Raft, figure 8).
    CommitBeforeStart,
}
