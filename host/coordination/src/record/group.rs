//! The group record's JSON.

use mortise_core::group::{
    BootId, Generation, GroupRecord, Incarnation, LEVEL, LeaseId, Member, MemberKind, NodeId, Nonce,
};
use mortise_core::ids::Epoch;
use serde::{Deserialize, Serialize};

use super::{Record, hex, parse, to_json};
use crate::error::CoordinationError;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    level: u32,
    epoch: u64,
    generation: u64,
    #[serde(with = "hex")]
    coordinator: u64,
    leader: Option<u64>,
    leader_boot: u64,
    #[serde(with = "hex")]
    leader_lease: u64,
    min_isr: u32,
    members: Vec<JsonMember>,
    isr: Vec<u64>,
    elr: Vec<u64>,
    #[serde(with = "hex")]
    nonce: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonMember {
    node: u64,
    #[serde(with = "hex")]
    incarnation: u64,
    kind: JsonKind,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum JsonKind {
    Voter,
    Learner,
}

impl From<&GroupRecord> for Json {
    fn from(record: &GroupRecord) -> Self {
        let member = |member: &Member| JsonMember {
            node: member.node.0,
            incarnation: member.incarnation.0,
            kind: match member.kind {
                MemberKind::Voter => JsonKind::Voter,
                MemberKind::Learner => JsonKind::Learner,
            },
        };
        Self {
            level: record.level,
            epoch: record.epoch.0,
            generation: record.generation.0,
            coordinator: record.coordinator,
            leader: record.leader.map(|leader| leader.0),
            leader_boot: record.leader_boot.0,
            leader_lease: record.leader_lease.0,
            min_isr: record.min_isr,
            members: record.members.iter().map(member).collect(),
            isr: record.isr.iter().map(|node| node.0).collect(),
            elr: record.elr.iter().map(|node| node.0).collect(),
            nonce: record.nonce.0,
        }
    }
}

impl TryFrom<Json> for GroupRecord {
    type Error = String;

    fn try_from(json: Json) -> Result<Self, String> {
        let member = |member: JsonMember| Member {
            node: NodeId(member.node),
            incarnation: Incarnation(member.incarnation),
            kind: match member.kind {
                JsonKind::Voter => MemberKind::Voter,
                JsonKind::Learner => MemberKind::Learner,
            },
        };
        let record = Self {
            level: json.level,
            epoch: Epoch(json.epoch),
            generation: Generation(json.generation),
            coordinator: json.coordinator,
            leader: json.leader.map(NodeId),
            leader_boot: BootId(json.leader_boot),
            leader_lease: LeaseId(json.leader_lease),
            min_isr: json.min_isr,
            members: json.members.into_iter().map(member).collect(),
            isr: json.isr.into_iter().map(NodeId).collect(),
            elr: json.elr.into_iter().map(NodeId).collect(),
            nonce: Nonce(json.nonce),
        };
        record.check().map_err(|error| error.to_string())?;
        Ok(record)
    }
}

impl Record for GroupRecord {
    fn nonce(&self) -> Nonce {
        self.nonce
    }

    fn write(&self) -> Result<Vec<u8>, CoordinationError> {
        self.check()?;
        to_json(&Json::from(self))
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        parse::<Json>(bytes, "a group record", LEVEL)?.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> GroupRecord {
        let voters = [1, 2, 3].map(|node| (NodeId(node), Incarnation(u64::MAX - node)));
        let created = GroupRecord::create(1, &voters, 2, Nonce(u64::MAX)).unwrap();
        let elected = created.elect(NodeId(2), Epoch(1), BootId(9), LeaseId(u64::MAX - 1), Nonce(7));
        elected.add(NodeId(4), Nonce(1 << 63)).unwrap()
    }

    #[test]
    fn a_record_survives_the_way_to_json_and_back() {
        let bytes = record().write().unwrap();
        assert_eq!(GroupRecord::read(&bytes).unwrap(), record());
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.contains(r#""nonce":"8000000000000000""#) && text.contains(r#""kind":"learner""#),
            "{text}"
        );
    }

    #[test]
    fn a_newer_level_is_said_to_be_newer_whatever_else_it_holds() {
        let error = GroupRecord::read(br#"{"level": 3, "shape": "unheard of"}"#).unwrap_err();
        assert!(error.contains("level 3, from a newer release"), "{error}");
    }

    #[test]
    fn a_record_that_breaks_its_rules_is_neither_read_nor_written() {
        let mut broken = record();
        broken.isr.insert(NodeId(77));
        assert!(broken.write().is_err());
        let text = String::from_utf8(record().write().unwrap()).unwrap();
        let error = GroupRecord::read(text.replace(r#""isr":["#, r#""isr":[77,"#).as_bytes()).unwrap_err();
        assert!(error.contains("no voter"), "{error}");
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_an_error_or_another_valid_record() {
        let bytes = record().write().unwrap();
        for end in 0..bytes.len() {
            assert!(GroupRecord::read(&bytes[..end]).is_err());
        }
        for at in 0..bytes.len() {
            for byte in [0, b'"', b'9', b'}', 0xff] {
                let mut changed = bytes.clone();
                changed[at] = byte;
                if let Ok(record) = GroupRecord::read(&changed) {
                    assert_eq!(record.check(), Ok(()));
                }
            }
        }
        assert!(
            GroupRecord::read(&vec![b' '; super::super::VALUE_BYTES_MAX + 1])
                .unwrap_err()
                .contains("too long")
        );
    }
}
