//! The group record: each transition with what it promises, and any sequence of them.

use std::collections::BTreeSet;

use mortise_core::codec::{Reader, Writer};
use mortise_core::group::{
    BootId, Generation, GroupRecord, Incarnation, LEVEL, LeaseId, MEMBERS_MAX, Member, MemberKind, NodeId,
    Nonce,
};
use mortise_core::ids::Epoch;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::fixed;

fn nodes(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().map(|node| NodeId(*node)).collect()
}

fn voter(node: u64) -> (NodeId, Incarnation) {
    (NodeId(node), Incarnation(node + 100))
}

/// Nodes 1 to `voters`; node 1 leads epoch 1.
fn led(voters: u64, min_isr: u32) -> GroupRecord {
    let voters: Vec<_> = (1..=voters).map(voter).collect();
    let record = GroupRecord::create(1, &voters, min_isr, Nonce(1)).expect("a group");
    elect(&record, 1, 1)
}

fn elect(record: &GroupRecord, node: u64, epoch: u64) -> GroupRecord {
    record.elect(NodeId(node), Epoch(epoch), BootId(7), LeaseId(8), Nonce(9))
}

#[track_caller]
fn check(record: &GroupRecord, leader: Option<u64>, isr: &[u64], elr: &[u64]) {
    record.check().expect("a record");
    let seen = (record.leader, &record.isr, &record.elr);
    assert_eq!(seen, (leader.map(NodeId), &nodes(isr), &nodes(elr)));
}

fn encoded(record: &GroupRecord) -> bytes::Bytes {
    let mut writer = Writer::default();
    record.encode(&mut writer);
    writer.finish()
}

#[test]
fn a_new_group_has_all_its_voters_in_sync_and_no_leader() {
    let record = GroupRecord::create(1, &[voter(3), voter(1)], 2, Nonce(5)).unwrap();
    check(&record, None, &[1, 3], &[]);
    assert_eq!((record.epoch, record.level, record.nonce), (Epoch(0), LEVEL, Nonce(5)));
    let given: Vec<_> = record.members.iter().map(|member| (member.node.0, member.incarnation.0)).collect();
    assert_eq!(given, [(1, 101), (3, 103)]);
}

#[test]
fn a_group_that_cannot_be_is_not_created() {
    let many: Vec<_> = (1..=MEMBERS_MAX as u64 + 1).map(voter).collect();
    let groups: [(&[(NodeId, Incarnation)], u32); 8] = [
        (&[], 1),
        (&[voter(1), voter(1)], 1),
        (&[voter(1), (NodeId(1), Incarnation(7))], 1),
        (&[voter(0)], 1),
        (&[(NodeId(1), Incarnation(0))], 1),
        (&[voter(1)], 0),
        (&[voter(1)], 2),
        (&many, 1),
    ];
    for (voters, min_isr) in groups {
        assert!(GroupRecord::create(1, voters, min_isr, Nonce(1)).is_err(), "{voters:?} {min_isr}");
    }
}

#[test]
fn who_is_elected_takes_the_leaders_place_in_the_set() {
    let record = elect(&led(3, 2), 2, 5);
    check(&record, Some(2), &[2, 3], &[]);
    assert_eq!((record.epoch, record.leader_boot, record.leader_lease), (Epoch(5), BootId(7), LeaseId(8)));
    // The old leader may hold what nobody else has: while the set is too small to commit, it stays eligible.
    check(&elect(&elect(&led(3, 2), 2, 2), 3, 3), Some(3), &[3], &[2]);
    check(&elect(&led(1, 1), 1, 2), Some(1), &[1], &[]);
}

#[test]
fn a_transfer_keeps_the_set() {
    let record = led(3, 2).transfer(NodeId(2), Epoch(2), BootId(4), LeaseId(5), Nonce(6));
    check(&record, Some(2), &[1, 2, 3], &[]);
    assert_eq!(record.epoch, Epoch(2));
}

#[test]
fn who_leaves_a_set_that_is_too_small_stays_eligible() {
    let record = led(4, 2);
    let three = record.shrink(&nodes(&[4]), Nonce(2));
    check(&three, Some(1), &[1, 2, 3], &[]);
    check(&three.shrink(&nodes(&[2, 3]), Nonce(3)), Some(1), &[1], &[2, 3]);
    let one = three.shrink(&nodes(&[2]), Nonce(3)).shrink(&nodes(&[3]), Nonce(4));
    check(&one, Some(1), &[1], &[3]);
    // Who was not in the set does not become eligible by leaving it.
    check(&one.shrink(&nodes(&[2, 4]), Nonce(5)), Some(1), &[1], &[3]);
    // As soon as the set can commit again, nobody is eligible besides: 3 will miss what is committed.
    check(&one.expand(&nodes(&[4]), Nonce(5)), Some(1), &[1, 4], &[]);
}

#[test]
fn a_learner_becomes_a_voter_when_it_is_in_sync() {
    let added = led(3, 2).add(NodeId(9), Nonce(2)).unwrap();
    check(&added, Some(1), &[1, 2, 3], &[]);
    let learner = Member { node: NodeId(9), incarnation: Incarnation(2), kind: MemberKind::Learner };
    assert_eq!(added.member(NodeId(9)), Some(&learner));
    let joined = added.expand(&nodes(&[9]), Nonce(3));
    check(&joined, Some(1), &[1, 2, 3, 9], &[]);
    assert_eq!(joined.member(NodeId(9)).unwrap().kind, MemberKind::Voter);
    assert!(added.add(NodeId(2), Nonce(3)).is_err(), "a member cannot be added");
    assert!(added.add(NodeId(0), Nonce(3)).is_err(), "0 is nobody");
}

/// A count would begin again where the coordinator is restored from a backup.
#[test]
fn an_incarnation_is_as_random_as_the_swap_that_brings_it() {
    let removed = led(3, 1).remove(NodeId(3), Nonce(2)).unwrap();
    check(&removed, Some(1), &[1, 2], &[]);
    for nonce in [77, u64::MAX, 1] {
        let added = removed.add(NodeId(3), Nonce(nonce)).unwrap();
        assert_eq!(added.member(NodeId(3)).unwrap().incarnation, Incarnation(nonce));
        let renewed = added.new_incarnation(NodeId(2), Nonce(nonce));
        assert_eq!(renewed.member(NodeId(2)).unwrap().incarnation, Incarnation(nonce));
    }
    let renewed = removed.new_incarnation(NodeId(2), Nonce(0));
    assert_eq!(renewed.check(), Ok(()), "0 is no incarnation, whatever names the swap");
}

#[test]
fn a_member_that_is_needed_is_not_removed() {
    let record = led(3, 2);
    assert!(record.remove(NodeId(1), Nonce(2)).is_err(), "the leader");
    assert!(record.remove(NodeId(4), Nonce(2)).is_err(), "a stranger");
    let two = record.shrink(&nodes(&[3]), Nonce(2));
    assert!(two.remove(NodeId(2), Nonce(3)).is_err(), "one of just enough");
    check(&two.remove(NodeId(3), Nonce(3)).unwrap(), Some(1), &[1, 2], &[]);
    let one = two.shrink(&nodes(&[2]), Nonce(3));
    assert!(one.remove(NodeId(2), Nonce(4)).is_err(), "it may hold what is committed");
}

#[test]
fn another_min_isr_settles_who_is_eligible() {
    let one = led(3, 2).shrink(&nodes(&[2, 3]), Nonce(2));
    check(&one.with_min_isr(1, Nonce(3)).unwrap(), Some(1), &[1], &[]);
    check(&one.with_min_isr(3, Nonce(3)).unwrap(), Some(1), &[1], &[2, 3]);
    // Who left while the set could commit is not made eligible by raising it.
    check(
        &led(3, 1).shrink(&nodes(&[2]), Nonce(2)).with_min_isr(3, Nonce(3)).unwrap(),
        Some(1),
        &[1, 3],
        &[],
    );
    assert!(one.with_min_isr(0, Nonce(3)).is_err());
    assert!(one.with_min_isr(4, Nonce(3)).is_err());
}

#[test]
fn a_lost_copy_leaves_both_sets_and_the_leadership() {
    check(&led(3, 2).new_incarnation(NodeId(2), Nonce(2)), Some(1), &[1, 3], &[]);
    check(&led(3, 2).new_incarnation(NodeId(1), Nonce(2)), None, &[2, 3], &[]);
    let eligible = led(3, 2).shrink(&nodes(&[2, 3]), Nonce(2)).new_incarnation(NodeId(3), Nonce(3));
    check(&eligible, Some(1), &[1], &[2]);
}

#[test]
fn an_unclean_start_begins_a_generation_with_one_member() {
    let small = led(3, 2).shrink(&nodes(&[2, 3]), Nonce(2));
    let record = small.unclean_start(NodeId(3), Epoch(4), BootId(1), LeaseId(2), Nonce(3));
    check(&record, Some(3), &[3], &[]);
    assert_eq!((record.epoch, record.generation.0, record.min_isr), (Epoch(4), 2, 1));
}

#[test]
fn readopting_changes_nothing_but_the_lease() {
    let record = led(3, 2);
    let again = record.readopt(LeaseId(99), Nonce(2));
    assert_eq!(again, GroupRecord { leader_lease: LeaseId(99), nonce: Nonce(2), ..record });
}

#[test]
fn records_that_cannot_be_are_refused() {
    type Break = fn(&mut GroupRecord);
    let breaks: [Break; 13] = [
        |record| record.level += 1,
        |record| record.members.clear(),
        |record| record.members.reverse(),
        |record| record.members[1].node = NodeId(1),
        |record| record.members[0].node = NodeId(0),
        |record| record.members[0].incarnation = Incarnation(0),
        |record| record.members[1].kind = MemberKind::Learner,
        |record| _ = record.isr.insert(NodeId(9)),
        |record| _ = record.elr.insert(NodeId(2)),
        |record| record.min_isr = 0,
        |record| record.leader = Some(NodeId(9)),
        |record| record.epoch = Epoch(u64::MAX),
        |record| record.generation = Generation(u64::MAX),
    ];
    for (number, spoil) in breaks.iter().enumerate() {
        let mut record = led(3, 2);
        spoil(&mut record);
        assert!(record.check().is_err(), "{number}: {record:?}");
        assert!(GroupRecord::decode(&mut Reader::new(encoded(&record))).is_err(), "{number}: {record:?}");
    }
}

/// A transition, with numbers that choose its nodes. What must not be asked for leaves the record as it is.
fn transition(record: &GroupRecord, (kind, node, other): (u8, u64, u64)) -> GroupRecord {
    let (node, nonce) = (NodeId(node), Nonce(other));
    let (epoch, boot, lease) = (record.epoch.next(), BootId(other), LeaseId(other));
    let refused = |_| record.clone();
    let led = record.leader.is_some();
    match kind {
        0 if record.is_eligible(node) => record.elect(node, epoch, boot, lease, nonce),
        1 if record.isr.contains(&node) && led => record.transfer(node, epoch, boot, lease, nonce),
        2 if led && record.leader != Some(node) => record.shrink(&[node].into(), nonce),
        3 if led => record.expand(&[node, NodeId(other)].into(), nonce),
        4 => record.add(node, nonce).unwrap_or_else(refused),
        5 => record.remove(node, nonce).unwrap_or_else(refused),
        6 => record.with_min_isr(other as u32, nonce).unwrap_or_else(refused),
        7 => record.new_incarnation(node, nonce),
        8 if record.member(node).is_some() => record.unclean_start(node, epoch, boot, lease, nonce),
        9 => record.readopt(lease, nonce),
        _ => record.clone(),
    }
}

proptest! {
    #![proptest_config(fixed(2000))]

    #[test]
    fn any_sequence_of_transitions_keeps_the_invariants(
        voters in 1..5u64,
        steps in vec((0..10u8, 1..7u64, 0..7u64), 0..40),
    ) {
        let mut record = led(voters, 1);
        for step in steps {
            let next = transition(&record, step);
            prop_assert_eq!(next.check(), Ok(()), "{:?} of {:?}", step, record);
            prop_assert!(next.epoch >= record.epoch && next.generation >= record.generation);
            let listed = |node| record.member(node).map(|member| member.incarnation);
            for member in next.members.iter().filter(|member| listed(member.node) != Some(member.incarnation)) {
                prop_assert_eq!(member.incarnation.0, next.nonce.0.max(1), "a life begins with the swap");
            }
            // Who becomes eligible was in the set; else it may miss what was committed.
            let operator = next.generation > record.generation;
            prop_assert!(operator || next.elr.iter().all(|node| record.is_eligible(*node)));
            let decoded = GroupRecord::decode(&mut Reader::new(encoded(&next))).unwrap();
            prop_assert_eq!(&decoded, &next);
            record = next;
        }
    }
}
