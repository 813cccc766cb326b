use mortise_core::group::{Incarnation, LeaseId, Nonce};
use proptest::prelude::*;

use super::*;
use crate::seen::{ClusterId, Seen, Source};
use crate::state::Session;

const GROUP: GroupId = GroupId(1);

fn record() -> GroupRecord {
    GroupRecord::create(1, &[1, 2, 3].map(|node| (NodeId(node), Incarnation(node))), 1, Nonce(1)).unwrap()
}

fn led(record: &GroupRecord, node: u64, boot: u64, epoch: u64) -> GroupRecord {
    record.elect(NodeId(node), Epoch(epoch), BootId(boot), LeaseId(9), Nonce(2))
}

fn state(record: Option<&GroupRecord>, alive: &[u64]) -> Arc<GroupState> {
    let seen = Seen {
        cluster: ClusterId(1),
        revision: Revision(1),
        mod_revision: Revision(1),
        record: record.cloned(),
        source: Source::Watch,
    };
    let session = Session { boot: BootId(1), lease: LeaseId(1), mod_revision: Revision(1) };
    let sessions = alive.iter().map(|node| (NodeId(*node), session)).collect();
    Arc::new(GroupState { record: Ok(seen), candidates: Vec::new(), sessions, revision: Revision(1) })
}

fn nodes(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().map(|node| NodeId(*node)).collect()
}

fn told(roles: &mut Roles, record: &GroupRecord, alive: &[u64]) -> Vec<RoleChange> {
    roles.observe(GROUP, &state(Some(record), alive)).into_iter().map(|event| event.change).collect()
}

use RoleChange::{BecameFollower, BecameLeader, FollowersAdded, FollowersRemoved, LeaderChanged};

#[test]
fn a_life_as_leader_and_follower() {
    let mut roles = Roles::new(Viewpoint::Node(NodeId(1), BootId(7)));
    let leader = Some(NodeId(2));
    let first = led(&record(), 2, 1, 1);
    let start = BecameFollower { initial: true, epoch: Epoch(1), leader };
    assert_eq!(told(&mut roles, &first, &[1, 2]), [start, FollowersAdded(nodes(&[1]))]);
    assert_eq!(told(&mut roles, &first, &[1, 2]), []);
    assert_eq!(told(&mut roles, &first, &[1, 2, 3]), [FollowersAdded(nodes(&[3]))]);
    let mine = led(&first, 1, 7, 2);
    let lead = BecameLeader { initial: false, epoch: Epoch(2) };
    assert_eq!(
        told(&mut roles, &mine, &[1, 2, 3]),
        [lead, FollowersRemoved(nodes(&[1])), FollowersAdded(nodes(&[2]))]
    );
    let lost = led(&mine, 3, 1, 3);
    let follow = BecameFollower { initial: false, epoch: Epoch(3), leader: Some(NodeId(3)) };
    assert_eq!(
        told(&mut roles, &lost, &[1, 3]),
        [
            follow,
            LeaderChanged { epoch: Epoch(3), leader: Some(NodeId(3)) },
            FollowersRemoved(nodes(&[2, 3])),
            FollowersAdded(nodes(&[1]))
        ]
    );
}

#[test]
fn a_record_of_an_earlier_process_makes_no_leader() {
    let mut roles = Roles::new(Viewpoint::Node(NodeId(1), BootId(8)));
    let earlier = led(&record(), 1, 7, 4);
    let start = BecameFollower { initial: true, epoch: Epoch(4), leader: Some(NodeId(1)) };
    assert_eq!(told(&mut roles, &earlier, &[1]), [start]);
    let again = led(&earlier, 1, 8, 5);
    assert_eq!(told(&mut roles, &again, &[1]), [BecameLeader { initial: false, epoch: Epoch(5) }]);
}

#[test]
fn a_node_that_leads_when_it_is_first_told_leads_at_start() {
    let mut roles = Roles::new(Viewpoint::Node(NodeId(1), BootId(7)));
    let start = BecameLeader { initial: true, epoch: Epoch(1) };
    assert_eq!(told(&mut roles, &led(&record(), 1, 7, 1), &[1]), [start]);
}

#[test]
fn records_that_are_gone_or_old_change_nothing() {
    let mut roles = Roles::new(Viewpoint::Observer);
    let newer = led(&led(&record(), 2, 1, 1), 3, 1, 2);
    let told_first = told(&mut roles, &newer, &[1]);
    assert_eq!(told_first[0], LeaderChanged { epoch: Epoch(2), leader: Some(NodeId(3)) });
    assert_eq!(roles.observe(GROUP, &state(None, &[])), []);
    assert_eq!(told(&mut roles, &led(&record(), 2, 1, 1), &[1, 2]), []);
    assert_eq!(told(&mut roles, &newer, &[1, 2]), [FollowersAdded(nodes(&[2]))]);
}

#[test]
fn events_are_told_in_words() {
    let change = BecameFollower { initial: true, epoch: Epoch(3), leader: None };
    let event = RoleEvent { group: GROUP, revision: Revision(5), change };
    assert_eq!(event.to_string(), "group 0001: became-follower at start, epoch 3, leader nobody");
}

proptest! {
    /// Whatever is left out between two looks: what is told adds up to the newest state, and never repeats.
    #[test]
    fn what_is_told_adds_up(
        steps in proptest::collection::vec((1u64..4, 1u64..3, any::<bool>(), 0u8..8), 1..40)
    ) {
        let mut roles = Roles::new(Viewpoint::Node(NodeId(1), BootId(1)));
        let (mut record, mut epoch) = (record(), 0);
        let (mut followers, mut leads, mut leader) = (BTreeSet::new(), None, None);
        for (node, boot, elects, alive) in steps {
            if elects {
                epoch += 1;
                record = led(&record, node, boot, epoch);
            }
            let alive: Vec<u64> = (1..4).filter(|node| alive >> (node - 1) & 1 == 1).collect();
            for change in told(&mut roles, &record, &alive) {
                match change {
                    BecameLeader { epoch, .. } => {
                        prop_assert_ne!(leads, Some(epoch), "told twice");
                        (leads, leader) = (Some(epoch), Some(NodeId(1)));
                    }
                    BecameFollower { leader: who, .. } => (leads, leader) = (None, who),
                    LeaderChanged { leader: who, .. } => leader = who,
                    FollowersAdded(nodes) => nodes.iter().for_each(|node| assert!(followers.insert(*node))),
                    FollowersRemoved(nodes) => nodes.iter().for_each(|node| assert!(followers.remove(node))),
                }
            }
            let alive_followers: BTreeSet<NodeId> =
                alive.into_iter().map(NodeId).filter(|node| record.leader != Some(*node)).collect();
            prop_assert_eq!(&followers, &alive_followers);
            prop_assert_eq!(leader, record.leader);
            let mine = record.leader == Some(NodeId(1)) && record.leader_boot == BootId(1);
            prop_assert_eq!(leads, mine.then_some(record.epoch));
        }
    }
}
