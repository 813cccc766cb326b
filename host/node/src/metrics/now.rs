//! What is so at the moment the page is fetched: asked then, and kept nowhere.

use std::sync::atomic::AtomicU64;

use mortise_core::ids::GroupId;
use mortise_peer::{Count, LinkState, LinkStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Number;
use crate::replica::ReplicaStatus;

/// A node's replicas and links at one moment. A group has about twenty series, a peer eight.
#[derive(Debug, Default)]
pub struct Now {
    /// Each replica, as `mortise_group_…{group="NUMBER"}`.
    pub groups: Vec<(GroupId, ReplicaStatus)>,
    /// The link to each peer, as `mortise_peer_…{peer="NUMBER"}`. Empty at a node that is alone.
    pub links: Vec<LinkStatus>,
    /// What was refused of peers or lost. By reason only: who was refused may have called itself what it liked.
    pub counts: Vec<(Count, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Group {
    group: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupRole {
    group: u64,
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    peer: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerState {
    peer: u64,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What a group is measured by: name, meaning, and where it is read.
type GroupGauge = (&'static str, &'static str, fn(&ReplicaStatus) -> u64);

const GROUP_GAUGES: [GroupGauge; 10] = [
    ("epoch", "Epoch of the leadership that the replica knows", |status| status.epoch),
    ("isr_members", "Members of the in-sync set", |status| status.isr_members),
    ("log_first_index", "Index of the log's first entry", |status| status.log_first_index),
    ("log_last_index", "Index of the log's last entry", |status| status.last_index),
    ("commit_index", "Index of the last entry known to be committed", |status| status.commit_index),
    ("applied_index", "Index of the last applied entry", |status| status.applied_index),
    ("apply_lag_entries", "Entries committed but not applied", |status| {
        status.commit_index.saturating_sub(status.applied_index)
    }),
    ("snapshot_index", "Index of the newest snapshot's last entry", |status| status.snapshot_index),
    ("queue_commands", "Commands accepted and not answered", |status| status.writes_in_flight),
    ("queue_bytes", "Bytes of the commands accepted and not answered", |status| status.write_bytes_in_flight),
];

const ROLES: [&str; 3] = ["follower", "leader", "stopped"];

fn role(status: &ReplicaStatus) -> &'static str {
    match status {
        ReplicaStatus { fault: Some(_), .. } => "stopped",
        ReplicaStatus { leads: true, .. } => "leader",
        ReplicaStatus { .. } => "follower",
    }
}

impl Now {
    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("mortise");
        self.register_groups(registry.sub_registry_with_prefix("group"));
        self.register_peers(registry.sub_registry_with_prefix("peer"));
        registry
    }

    fn register_groups(&self, registry: &mut Registry) {
        let roles = Family::<GroupRole, Number>::default();
        for ((group, status), name) in self.groups.iter().flat_map(|group| ROLES.map(|role| (group, role))) {
            roles.get_or_create(&GroupRole { group: group.0, role: name }).set((role(status) == name).into());
        }
        let help = "1 for what this node is in the group: leader, as soon as it serves; follower; stopped";
        registry.register("role", help, roles);
        for (name, help, read) in GROUP_GAUGES {
            let family = Family::<Group, Number>::default();
            for (group, status) in &self.groups {
                family.get_or_create(&Group { group: group.0 }).set(read(status));
            }
            registry.register(name, help, family);
        }
    }

    fn register_peers(&self, registry: &mut Registry) {
        let states = Family::<PeerState, Number>::default();
        let round_trips = Family::<Peer, Gauge<f64, AtomicU64>>::default();
        let redials = Family::<Peer, Counter>::default();
        for link in &self.links {
            let peer = link.peer.0;
            for state in LinkState::ALL {
                let series = PeerState { peer, state: state.name() };
                states.get_or_create(&series).set((state == link.state).into());
            }
            if let Some(time) = link.round_trip {
                round_trips.get_or_create(&Peer { peer }).set(time.as_secs_f64());
            }
            redials.get_or_create(&Peer { peer }).inc_by(link.redials);
        }
        registry.register("link_state", "1 for the state that the link to a peer is in", states);
        let help = "Time until the newest ping of a peer was answered";
        registry.register_with_unit("round_trip", help, Unit::Seconds, round_trips);
        let help = "How often a peer was dialled again; from 0 where it has a new address";
        registry.register("redials", help, redials);
        let (dials, breaks) = (Counter::<u64>::default(), Counter::<u64>::default());
        let refused = Family::<Reason, Counter>::default();
        for (count, times) in &self.counts {
            match count {
                Count::Dials => dials.inc_by(*times),
                Count::Breaks => breaks.inc_by(*times),
                reason => refused.get_or_create(&Reason { reason: reason.name() }).inc_by(*times),
            };
        }
        registry.register("dials", "Dials of peers, failed ones included", dials);
        registry.register("breaks", "Links to peers that broke", breaks);
        registry.register("refused", "Calls, streams and messages refused or lost, by reason", refused);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mortise_core::group::NodeId;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn groups_and_peers_are_told_apart() {
        let leader = ReplicaStatus { leads: true, commit_index: 9, applied_index: 7, ..Default::default() };
        let stopped = ReplicaStatus { fault: Some("a full disk".into()), ..ReplicaStatus::default() };
        let link = LinkStatus {
            peer: NodeId(3),
            address: "node-3:7402".into(),
            state: LinkState::Broken,
            since: Duration::ZERO,
            round_trip: Some(Duration::from_micros(1500)),
            redials: 4,
            last_error: String::new(),
        };
        let now = Now {
            groups: vec![(GroupId(1), leader), (GroupId(2), stopped)],
            links: vec![link],
            counts: vec![(Count::Dials, 5), (Count::TooLarge, 1)],
        };
        let page = Metrics::new().encode(&now);
        for line in [
            "mortise_group_role{group=\"1\",role=\"leader\"} 1",
            "mortise_group_role{group=\"1\",role=\"follower\"} 0",
            "mortise_group_role{group=\"2\",role=\"stopped\"} 1",
            "mortise_group_apply_lag_entries{group=\"1\"} 2",
            "mortise_group_commit_index{group=\"2\"} 0",
            "mortise_peer_link_state{peer=\"3\",state=\"broken\"} 1",
            "mortise_peer_link_state{peer=\"3\",state=\"connected\"} 0",
            "mortise_peer_round_trip_seconds{peer=\"3\"} 0.0015",
            "mortise_peer_redials_total{peer=\"3\"} 4",
            "mortise_peer_dials_total 5",
            "mortise_peer_refused_total{reason=\"too_large\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        }
    }
}
