//! A replica group as its coordinator knows it: who is a member, who leads, who holds every committed entry.
//!
//! The coordinator (etcd) keeps one [`GroupRecord`] a group and changes it only by compare-and-swap. The record *is*
//! the leadership: there is no other vote. PacificA (Lin et al., 2008) calls this the configuration manager; the
//! in-sync set is Kafka's ISR, the eligible set KIP-966's ELR.

mod record;
mod record_codec;

pub use record::{GroupRecord, LEVEL, MEMBERS_MAX, Member, MemberKind, RecordError};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A node of the cluster, as its operator numbered it. 0 is nobody.
    NodeId
}
id! {
    /// One start of a node's process. Grows with each.
    BootId
}
id! {
    /// One life of a node's copy of a group: a random number, 0 for none. A copy that was lost, restored or damaged goes
    /// on under another one, so that it never counts for what its predecessor acknowledged. Lives have no order, and only
    /// equality means anything: a count would begin again where the coordinator is restored from a backup.
    Incarnation
}
id! {
    /// Counts the times an operator accepted that committed entries may be lost. Histories are only comparable within one.
    Generation
}
id! {
    /// A random number that names one write of a group's record, so that a node recognises its own.
    Nonce
}
id! {
    /// A node's lease with the coordinator.
    LeaseId
}

impl Incarnation {
    /// The life that a write of the record begins, as random as the number that names the write.
    pub(super) fn begun_by(nonce: Nonce) -> Self {
        Self(nonce.0.max(1))
    }
}
