//! The keys of a cluster as they were listed, kept up by the changes that a watch tells.

use std::collections::{BTreeMap, BTreeSet};

use mortise_core::group::{BootId, GroupRecord, NodeId};
use mortise_core::ids::GroupId;

use crate::backend::{Answer, KeyValue, WatchEvent};
use crate::error::Corrupt;
use crate::keys::{Keys, Name, Parsed};
use crate::record::{self, Record, SessionRecord};
use crate::seen::{ClusterId, Revision, Seen, Source};
use crate::state::{Candidate, Entry, GroupState, Nodes, Session, Tenants, record_of};

/// Everything under the prefix.
///
/// Invariant: it is what a listing at `revision` would give, as far as the watch told the truth; a new listing mends
/// the rest.
#[derive(Debug)]
pub(super) struct View {
    keys: Keys,
    cluster: ClusterId,
    revision: Revision,
    /// Whether the next listing is of the same history, so that its revisions compare with those that are known.
    continues: bool,
    /// The last change of each key that is there.
    changed: BTreeMap<Name, Revision>,
    groups: BTreeMap<GroupId, Entry<GroupRecord>>,
    candidates: BTreeMap<GroupId, BTreeMap<(NodeId, BootId), Candidate>>,
    nodes: Nodes,
    tenants: Tenants,
}

/// What changes touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) groups: BTreeSet<GroupId>,
    pub(super) nodes: bool,
    pub(super) tenants: bool,
    /// Candidacies that ended.
    pub(super) candidates_gone: BTreeSet<(GroupId, (NodeId, BootId))>,
    /// Values that cannot be read, and keys that are nobody's: worth a line in the log.
    pub(super) corrupt: Vec<Corrupt>,
    /// Whose session came or went: their groups are touched, too.
    sessions: BTreeSet<NodeId>,
}

impl Touched {
    fn also(&mut self, more: Touched) {
        self.groups.extend(more.groups);
        self.sessions.extend(more.sessions);
        self.candidates_gone.extend(more.candidates_gone);
        self.corrupt.extend(more.corrupt);
        self.nodes |= more.nodes;
        self.tenants |= more.tenants;
    }
}

impl View {
    /// Nothing is known yet.
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            keys,
            cluster: ClusterId(0),
            revision: Revision(0),
            continues: false,
            changed: BTreeMap::new(),
            groups: BTreeMap::new(),
            candidates: BTreeMap::new(),
            nodes: Nodes::new(),
            tenants: Tenants::new(),
        }
    }

    /// Takes over what a listing gave. What did not change since stays as it was seen: a listing is no news of it.
    pub(super) fn list(&mut self, listed: Answer<Vec<KeyValue>>) -> Touched {
        let mut touched = Touched::default();
        let continues = std::mem::replace(&mut self.continues, true);
        (self.cluster, self.revision) = (listed.cluster, listed.revision);
        let mut gone = std::mem::take(&mut self.changed);
        for at in listed.value {
            match self.name(&at, &mut touched) {
                Some(name) if continues && gone.remove(&name) == Some(at.mod_revision) => {
                    self.changed.insert(name, at.mod_revision);
                }
                Some(name) => {
                    gone.remove(&name);
                    touched.also(self.put(name, &at));
                }
                None => {}
            }
        }
        if !continues {
            // What was absent in another history is so in this one for a reason of its own.
            let absent = self.groups.keys().map(|group| Name::Group(*group));
            gone.extend(
                absent.filter(|name| !self.changed.contains_key(name)).map(|name| (name, Revision(0))),
            );
        }
        for name in gone.into_keys() {
            touched.also(self.remove(&name, Revision(0)));
        }
        self.settle(touched)
    }

    /// The next listing may be of another history: then all of it is news, whatever its revisions are.
    pub(super) fn history_broke(&mut self) {
        self.continues = false;
    }

    /// Takes over what a watch told. Changes at or below the revision of the listing are repetitions, and so are those
    /// below another one of the same message.
    pub(super) fn apply(&mut self, told: Answer<Vec<WatchEvent>>) -> Touched {
        let mut touched = Touched::default();
        let known = self.revision;
        for WatchEvent { at, deleted } in told.value {
            if at.mod_revision <= known || at.mod_revision < self.revision {
                continue;
            }
            self.revision = self.revision.max(at.mod_revision);
            match self.name(&at, &mut touched) {
                Some(name) if deleted => {
                    self.changed.remove(&name);
                    touched.also(self.remove(&name, at.mod_revision));
                }
                Some(name) => touched.also(self.put(name, &at)),
                None => {}
            }
        }
        self.settle(touched)
    }

    fn name(&self, at: &KeyValue, touched: &mut Touched) -> Option<Name> {
        match self.keys.parse(&at.key) {
            Parsed::Name(name) => Some(name),
            Parsed::Ignored => None,
            Parsed::Foreign(why) => {
                touched.corrupt.push(record::corrupt(at, why));
                None
            }
        }
    }

    fn put(&mut self, name: Name, at: &KeyValue) -> Touched {
        let mut touched = Touched::default();
        self.changed.insert(name.clone(), at.mod_revision);
        match name {
            Name::Group(group) => {
                let entry = self.entry(at, &mut touched);
                self.groups.insert(group, entry);
                touched.groups.insert(group);
            }
            Name::Candidate(group, node, boot) => {
                touched.groups.insert(group);
                let candidates = self.candidates.entry(group).or_default();
                if let Some(lease) = at.lease {
                    let candidate = Candidate { node, boot, lease, create_revision: at.create_revision };
                    candidates.insert((node, boot), candidate);
                } else {
                    // It would stay for ever: it is none, and nobody of ours writes one.
                    candidates.remove(&(node, boot));
                    touched.candidates_gone.insert((group, (node, boot)));
                    touched.corrupt.push(record::corrupt(at, "a candidate without a lease"));
                }
            }
            Name::Node(node) => {
                let entry = self.entry(at, &mut touched);
                self.nodes.entry(node).or_default().record = Some(entry);
                touched.nodes = true;
            }
            Name::Session(node) => {
                self.nodes.entry(node).or_default().session = match (SessionRecord::read(at), at.lease) {
                    (Ok(record), Some(lease)) => {
                        let boot = BootId(record.boot);
                        Some(Session { boot, lease, mod_revision: at.mod_revision })
                    }
                    (decoded, _) => {
                        let without = || record::corrupt(at, "a session without a lease");
                        touched.corrupt.push(decoded.err().unwrap_or_else(without));
                        None
                    }
                };
                touched.nodes = true;
                touched.sessions.insert(node);
            }
            Name::Tenant(tenant) => {
                let entry = self.entry(at, &mut touched);
                self.tenants.insert(tenant, entry);
                touched.tenants = true;
            }
        }
        touched
    }

    fn entry<R: Record>(&self, at: &KeyValue, touched: &mut Touched) -> Entry<R> {
        let decoded = record::decode(at);
        touched.corrupt.extend(decoded.as_ref().err().cloned());
        decoded.map(|record| Seen {
            cluster: self.cluster,
            revision: self.revision,
            mod_revision: at.mod_revision,
            record: Some(record),
            source: Source::Watch,
        })
    }

    /// `revision`: of the deletion, 0 where only the absence is known.
    fn remove(&mut self, name: &Name, revision: Revision) -> Touched {
        let mut touched = Touched::default();
        match name {
            Name::Group(group) => {
                let absent = self.absent(revision);
                self.groups.insert(*group, Ok(absent));
                touched.groups.insert(*group);
            }
            Name::Candidate(group, node, boot) => {
                if let Some(candidates) = self.candidates.get_mut(group) {
                    candidates.remove(&(*node, *boot));
                }
                touched.candidates_gone.insert((*group, (*node, *boot)));
                touched.groups.insert(*group);
            }
            Name::Node(node) => {
                if let Some(state) = self.nodes.get_mut(node) {
                    state.record = None;
                }
                touched.nodes = true;
            }
            Name::Session(node) => {
                if let Some(state) = self.nodes.get_mut(node) {
                    state.session = None;
                }
                touched.nodes = true;
                touched.sessions.insert(*node);
            }
            Name::Tenant(tenant) => {
                self.tenants.remove(tenant);
                touched.tenants = true;
            }
        }
        touched
    }

    fn absent<T>(&self, mod_revision: Revision) -> Seen<T> {
        let (cluster, revision) = (self.cluster, self.revision);
        Seen { cluster, revision, mod_revision, record: None, source: Source::Watch }
    }

    /// Forgets what is empty, and adds the groups of nodes whose session came or went.
    fn settle(&mut self, mut touched: Touched) -> Touched {
        self.nodes.retain(|_, state| state.record.is_some() || state.session.is_some());
        self.candidates.retain(|_, candidates| !candidates.is_empty());
        if !touched.sessions.is_empty() {
            let is_member =
                |record: &GroupRecord| record.members.iter().any(|m| touched.sessions.contains(&m.node));
            let of_them = self.groups.iter().filter(|(_, entry)| record_of(entry).is_some_and(is_member));
            touched.groups.extend(of_them.map(|(group, _)| *group).collect::<Vec<_>>());
        }
        touched
    }

    /// All that is known of a group, also of one that nobody created.
    pub(super) fn group(&self, group: GroupId) -> GroupState {
        let record = self.groups.get(&group).cloned().unwrap_or_else(|| Ok(self.absent(Revision(0))));
        // In the order of nodes and starts, so the newest of a node replaces the others.
        let newest: BTreeMap<NodeId, Candidate> =
            self.candidates.get(&group).into_iter().flatten().map(|((node, _), c)| (*node, *c)).collect();
        let mut candidates: Vec<Candidate> = newest.into_values().collect();
        candidates.sort_by_key(|candidate| (candidate.create_revision, candidate.node));
        let members = record_of(&record).map(|record| record.members.as_slice()).unwrap_or_default();
        let session = |node: NodeId| self.session(node).map(|session| (node, session));
        let sessions = members.iter().filter_map(|member| session(member.node)).collect();
        GroupState { record, candidates, sessions, revision: self.revision }
    }

    /// What is known of a group that has no key.
    pub(super) fn no_group(&self) -> GroupState {
        let record = Ok(self.absent(Revision(0)));
        GroupState { record, candidates: Vec::new(), sessions: BTreeMap::new(), revision: self.revision }
    }

    pub(super) fn session(&self, node: NodeId) -> Option<Session> {
        self.nodes.get(&node)?.session
    }

    pub(super) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub(super) fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }
}

#[cfg(test)]
mod tests;
