//! The bytes of a group record, as a replica persists the newest one it has seen and members send it to each other.

use std::collections::BTreeSet;

use super::{
    BootId, Generation, GroupRecord, Incarnation, LeaseId, MEMBERS_MAX, Member, MemberKind, NodeId, Nonce,
    RecordError,
};
use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::Epoch;

impl GroupRecord {
    /// Appends the record.
    pub fn encode(&self, writer: &mut Writer) {
        writer.count(self.level.into()).count(self.epoch.0).count(self.generation.0).u64(self.coordinator);
        writer.option_count(self.leader.map(|leader| leader.0));
        writer.count(self.leader_boot.0).count(self.leader_lease.0).count(self.min_isr.into());
        writer.count(self.members.len() as u64);
        for member in &self.members {
            writer.count(member.node.0).u64(member.incarnation.0);
            writer.bool(member.kind == MemberKind::Learner);
        }
        for set in [&self.isr, &self.elr] {
            writer.count(set.len() as u64);
            set.iter().for_each(|node| _ = writer.count(node.0));
        }
        writer.u64(self.nonce.0);
    }

    /// Reads a record and checks it.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let level = reader.count32("format level")?;
        let epoch = Epoch(reader.count("epoch")?);
        let generation = Generation(reader.count("generation")?);
        let coordinator = reader.u64("coordinator")?;
        let leader = reader.option_count("leader")?.map(NodeId);
        let leader_boot = BootId(reader.count("leader's boot")?);
        let leader_lease = LeaseId(reader.count("leader's lease")?);
        let min_isr = reader.count32("min_isr")?;
        let mut members = Vec::new();
        for _ in 0..length(reader, "members")? {
            let node = NodeId(reader.count("member")?);
            let incarnation = Incarnation(reader.u64("incarnation")?);
            let kind = if reader.bool("learner")? { MemberKind::Learner } else { MemberKind::Voter };
            members.push(Member { node, incarnation, kind });
        }
        let (isr, elr) = (set(reader, "isr")?, set(reader, "elr")?);
        let nonce = Nonce(reader.u64("nonce")?);
        let record = Self {
            level,
            epoch,
            generation,
            coordinator,
            leader,
            leader_boot,
            leader_lease,
            min_isr,
            members,
            isr,
            elr,
            nonce,
        };
        record.check().map_err(|RecordError(_)| DecodeError::Malformed { what: "group record" })?;
        Ok(record)
    }
}

fn length(reader: &mut Reader, what: &'static str) -> Result<usize, DecodeError> {
    let length = reader.count32(what)? as usize;
    if length > MEMBERS_MAX { Err(DecodeError::Malformed { what }) } else { Ok(length) }
}

/// Nodes in rising order, as they are written: one set has one encoding.
fn set(reader: &mut Reader, what: &'static str) -> Result<BTreeSet<NodeId>, DecodeError> {
    let mut set = BTreeSet::new();
    for _ in 0..length(reader, what)? {
        let node = NodeId(reader.count(what)?);
        if set.last().is_some_and(|last| *last >= node) {
            return Err(DecodeError::Malformed { what });
        }
        set.insert(node);
    }
    Ok(set)
}
