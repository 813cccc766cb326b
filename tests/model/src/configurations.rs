//! The configurations that are searched.

use mortise_core::replica::Mutant;

use crate::bounds::{Bounds, Budget, Fsync, Start};

/// The rules about safety that a model can notice the loss of, each with the configuration that does.
pub const MUTANTS: &[(Mutant, &str)] = &[
    (Mutant::CommitBeforeShrink, "shrink"),
    (Mutant::RaiseSetsOnAnswer, "expand"),
    (Mutant::SameRevisionRefuses, "unknown"),
    (Mutant::ElrDropped, "shrink"),
    (Mutant::ElrKept, "failover"),
    (Mutant::LostCopyKeepsIncarnation, "wipe"),
    (Mutant::ElectStale, "expand"),
    (Mutant::TruncateToCommit, "failover"),
    (Mutant::ExpandStale, "expand"),
    (Mutant::AcksFromBefore, "failover"),
    (Mutant::AnswersUnfenced, "crash"),
    (Mutant::NeverFreeze, "restore"),
    (Mutant::OpenAcknowledges, "break"),
    (Mutant::AcknowledgeBeforeFsync, "torn"),
    (Mutant::AnswerBeforePromise, "torn"),
    (Mutant::CommitAlone, "failover"),
    (Mutant::ReadUnconfirmed, "reads"),
    (Mutant::ConfirmByIsr, "reads-alone"),
    (Mutant::TransferOutsideIsr, "transfer-out"),
    (Mutant::LostOnTruncation, "tokens"),
    (Mutant::LostBelowEpoch, "tokens"),
    (Mutant::LostBeforeStart, "tokens"),
    (Mutant::ServeBeforeStart, "failover"),
    (Mutant::CommitBeforeStart, "failover"),
];

/// The configuration of this name.
pub fn named(name: &str) -> Option<Bounds> {
    all().into_iter().find(|bounds| bounds.name == name)
}

/// All configurations.
pub fn all() -> Vec<Bounds> {
    use Budget::{
        Ask, Break, Crash, Elect, Lease, MinIsr, Propose, ProposeAck, Read, Restore, Swap, Transfer, Unknown,
        Wait, Wipe,
    };
    let new = Bounds::new;
    vec![
        new("failover").allow(Elect, 2).allow(Propose, 1).allow(Swap, 2),
        new("zigzag").nodes(2).allow(Elect, 3).allow(Propose, 1).allow(Swap, 3),
        new("shrink").allow(Wait, 1).allow(Elect, 1).allow(Propose, 1).allow(Swap, 2),
        new("expand").start(Start::LastOut).allow(Elect, 1).allow(Propose, 1).allow(Swap, 3),
        new("alone").start(Start::Alone).allow(Elect, 2).allow(Propose, 1).allow(Swap, 2),
        new("two").nodes(2).min_isr(1).allow(Wait, 1).allow(Elect, 2).allow(Propose, 1).allow(Swap, 3),
        new("unknown").start(Start::LastOut).allow(Unknown, 1).allow(Elect, 1).allow(Wait, 1).allow(Swap, 2),
        new("crash")
            .fsync(Fsync::LeaderLate)
            .allow(Crash, 1)
            .allow(Elect, 1)
            .allow(Propose, 1)
            .allow(Swap, 2),
        new("torn")
            .nodes(2)
            .fsync(Fsync::AllLate)
            .allow(Crash, 1)
            .allow(Elect, 1)
            .allow(Propose, 1)
            .allow(Swap, 2),
        new("break")
            .nodes(2)
            .fsync(Fsync::LogLate)
            .allow(Break, 1)
            .allow(Propose, 1)
            .allow(Elect, 1)
            .allow(Swap, 2),
        new("wipe").allow(Wipe, 1).allow(Elect, 1).allow(Propose, 1).allow(Swap, 2),
        new("transfer").allow(Transfer, 1).allow(Elect, 1).allow(Propose, 1).allow(Swap, 2),
        new("transfer-out").start(Start::LastOut).allow(Transfer, 1).allow(Propose, 1).allow(Swap, 2),
        new("min-isr").allow(MinIsr, 1).allow(Wait, 1).allow(Elect, 1).allow(Swap, 2),
        new("tokens").min_isr(1).allow(ProposeAck, 1).allow(Ask, 1).allow(Elect, 2).allow(Swap, 2),
        new("reads").allow(Read, 1).allow(Elect, 1).allow(Propose, 1).allow(Swap, 1),
        new("reads-alone").start(Start::Alone).allow(Read, 1).allow(Elect, 1).allow(Swap, 2),
        new("lease").allow(Lease, 1).allow(Elect, 1).allow(Crash, 1).allow(Swap, 2),
        new("restore").allow(Restore, 1).allow(Elect, 1).allow(Crash, 1).allow(Swap, 2),
    ]
}
