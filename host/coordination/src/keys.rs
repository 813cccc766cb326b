//! The keys of a cluster.
//!
//! ```text
//! /{cluster}/nodes/{node}                      persistent
//! /{cluster}/sessions/{node}                   leased
//! /{cluster}/candidates/{group}/{node}-{boot}  the same lease; their creation orders them
//! /{cluster}/groups/{group}                    persistent
//! /{cluster}/tenants/{name}                    persistent
//! ```
//! Keys with more levels are others' business: they are ignored.

use mortise_core::entry::check_tenant_name;
use mortise_core::group::{BootId, NodeId};
use mortise_core::ids::GroupId;

/// What a key names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Node(NodeId),
    Session(NodeId),
    Candidate(GroupId, NodeId, BootId),
    Group(GroupId),
    Tenant(String),
}

/// What is to be made of a key under the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// One of ours.
    Name(Name),
    /// Below one of ours, or in a folder we do not have: not our business.
    Ignored,
    /// Where one of ours should be, but none.
    Foreign(&'static str),
}

/// Builds and reads the keys of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    /// `cluster` was checked.
    pub(crate) fn new(cluster: &str) -> Self {
        Self { prefix: format!("/{cluster}/") }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn key(&self, name: &Name) -> String {
        let prefix = &self.prefix;
        match name {
            Name::Node(node) => format!("{prefix}nodes/{node}"),
            Name::Session(node) => format!("{prefix}sessions/{node}"),
            Name::Candidate(group, node, boot) => {
                format!("{prefix}candidates/{}/{node}-{boot}", group_name(*group))
            }
            Name::Group(group) => format!("{prefix}groups/{}", group_name(*group)),
            Name::Tenant(name) => format!("{prefix}tenants/{name}"),
        }
    }

    pub(crate) fn parse(&self, key: &[u8]) -> Parsed {
        let Ok(key) = std::str::from_utf8(key) else { return Parsed::Foreign("the key is not text") };
        let Some(rest) = key.strip_prefix(&self.prefix) else { return Parsed::Ignored };
        let mut parts = rest.split('/');
        let (folder, first, second) = (parts.next(), parts.next(), parts.next());
        let (Some(folder), Some(first), None) = (folder, first, parts.next()) else { return Parsed::Ignored };
        let name = match (folder, second) {
            ("nodes", None) => number(first).map(|node| Name::Node(NodeId(node))),
            ("sessions", None) => number(first).map(|node| Name::Session(NodeId(node))),
            ("groups", None) => group(first).map(Name::Group),
            ("tenants", None) => check_tenant_name(first).ok().map(|()| Name::Tenant(first.to_owned())),
            ("candidates", Some(second)) => group(first).zip(candidate(second)).map(|(group, who)| {
                let (node, boot) = who;
                Name::Candidate(group, node, boot)
            }),
            _ => return Parsed::Ignored,
        };
        name.map_or(Parsed::Foreign("the key's last part is not a name of ours"), Parsed::Name)
    }
}

/// A group's name in keys and for people: at least four digits.
pub fn group_name(group: GroupId) -> String {
    format!("{:04}", group.0)
}

fn group(text: &str) -> Option<GroupId> {
    let group = GroupId(text.parse().ok()?);
    (group_name(group) == text).then_some(group)
}

/// Only the one way to write a number: two keys must not name the same.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}

fn candidate(text: &str) -> Option<(NodeId, BootId)> {
    let (node, boot) = text.split_once('-')?;
    Some((NodeId(number(node)?), BootId(number(boot)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_way_to_their_key_and_back() {
        let keys = Keys::new("blue");
        let names = [
            Name::Node(NodeId(7)),
            Name::Session(NodeId(u64::MAX)),
            Name::Candidate(GroupId(1), NodeId(2), BootId(3)),
            Name::Group(GroupId(12_345)),
            Name::Tenant("kv".into()),
            Name::Tenant("Orders_2026.v1".into()),
        ];
        for name in names {
            assert_eq!(keys.parse(keys.key(&name).as_bytes()), Parsed::Name(name));
        }
        assert_eq!(keys.key(&Name::Group(GroupId(1))), "/blue/groups/0001");
    }

    #[test]
    fn deeper_levels_and_other_folders_are_ignored() {
        let keys = Keys::new("blue");
        let others = [
            "/blue/groups/0001/audit",
            "/blue/candidates/0001/1-2/x",
            "/blue/x",
            "/blue/notes/1",
            "/red/groups/1",
        ];
        for key in others {
            assert_eq!(keys.parse(key.as_bytes()), Parsed::Ignored, "{key}");
        }
    }

    #[test]
    fn a_second_way_to_write_a_name_is_foreign() {
        let keys = Keys::new("blue");
        for key in [
            &b"/blue/groups/1"[..],
            b"/blue/groups/+0001",
            b"/blue/groups/",
            b"/blue/nodes/01",
            b"/blue/nodes/0",
            b"/blue/nodes/99999999999999999999",
            b"/blue/candidates/0001/1",
            b"/blue/tenants/.a",
            b"/blue/groups/\xff",
        ] {
            assert!(matches!(keys.parse(key), Parsed::Foreign(_)), "{}", String::from_utf8_lossy(key));
        }
    }
}
