//! The sets that a leader counts with: the unions over every record that may be the coordinator's.

use std::collections::BTreeSet;

use crate::group::{GroupRecord, Incarnation, NodeId};
use crate::replica::mutants::Mutant;
use crate::replica::shared::Shared;

/// Members that may be in the in-sync set, or eligible besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::replica) struct Sets {
    pub(super) isr: BTreeSet<(NodeId, Incarnation)>,
    pub(super) elr: BTreeSet<(NodeId, Incarnation)>,
}

impl Shared {
    /// Every record that may be the coordinator's current one: the newest seen, and what a swap of this node asked
    /// for whose end is not known.
    fn possible_records(&self) -> impl Iterator<Item = &GroupRecord> {
        let requested = self.coordination.swap.as_ref().map(|swap| &swap.record);
        let requested = requested.filter(|_| !self.breaks(Mutant::RaiseSetsOnAnswer));
        let replaced = requested.is_some() && self.breaks(Mutant::CommitBeforeShrink);
        self.record().filter(|_| !replaced).into_iter().chain(requested)
    }

    /// The members that may be in the in-sync set: a commit needs each of them. A member may be named twice.
    pub(in crate::replica) fn maximal_isr(&self) -> impl Iterator<Item = (NodeId, Incarnation)> {
        let overtaken = self.coordination.overtaken.isr.iter().copied();
        self.possible_records().flat_map(|record| named(record, &record.isr)).chain(overtaken)
    }

    /// The members that may be eligible besides. A member may be named twice.
    pub(in crate::replica) fn maximal_elr(&self) -> impl Iterator<Item = (NodeId, Incarnation)> {
        let overtaken = self.coordination.overtaken.elr.iter().copied();
        self.possible_records().flat_map(|record| named(record, &record.elr)).chain(overtaken)
    }
}

/// The nodes of a set, with the incarnations that the record lists.
pub(super) fn named<'a>(
    record: &'a GroupRecord,
    set: &'a BTreeSet<NodeId>,
) -> impl Iterator<Item = (NodeId, Incarnation)> + 'a {
    set.iter().filter_map(|node| record.member(*node)).map(|member| (member.node, member.incarnation))
}
