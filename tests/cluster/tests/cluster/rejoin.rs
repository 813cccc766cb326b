//! Nodes that come back with less than they had, or with what they had long ago, while clients write.

use std::time::Instant;

use mortise_cluster_kit::PATIENCE;

use crate::kit::Kv;
use crate::load::Load;

#[test]
fn a_wiped_node_gets_everything_anew() {
    let mut kv = Kv::start();
    let follower = kv.follower();
    kv.put("a", "1");
    kv.kill(follower);
    kv.cluster.node(follower).wipe().unwrap();
    kv.put("b", "2");
    kv.restart(follower);
    // It leads now: what it has is all there is.
    kv.cluster.ok(&["cluster", "transfer", "1", &follower.to_string()]).unwrap();
    assert_eq!(kv.cluster.wait_leader().unwrap(), follower);
    assert_eq!((kv.get("a"), kv.get("b")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn disks_are_wiped_under_load() {
    let mut kv = Kv::start();
    let load = Load::start(&kv);
    for _ in 0..2 {
        for leads in [false, true] {
            load.wait_acknowledged(50);
            let victim = if leads { kv.cluster.wait_leader().unwrap() } else { kv.follower() };
            let life = kv.incarnation(victim);
            kv.cluster.node(victim).kill().unwrap();
            kv.cluster.node(victim).wipe().unwrap();
            // At once: its node is the one that the group's record names, and some have not even missed it.
            kv.cluster.node(victim).start().unwrap();
            load.wait_acknowledged(50);
            kv.cluster.wait_in_sync_while_written().unwrap();
            assert_ne!(kv.incarnation(victim), life, "an empty disk was taken for the lost one");
        }
    }
    load.finish(&kv);
}

#[test]
fn old_disks_come_back_under_load() {
    let mut kv = Kv::start_with_small_logs();
    let load = Load::start(&kv);
    for leads in [false, true] {
        load.wait_acknowledged(50);
        let victim = kv.follower();
        kv.kill(victim);
        kv.cluster.node(victim).keep_copy().unwrap();
        kv.restart(victim);
        if leads {
            kv.cluster.ok(&["cluster", "transfer", "1", &victim.to_string()]).unwrap();
            assert_eq!(kv.cluster.wait_leader().unwrap(), victim);
        }
        load.wait_acknowledged(50);
        let life = kv.incarnation(victim);
        kv.cluster.node(victim).kill().unwrap();
        kv.cluster.node(victim).put_back_copy().unwrap();
        kv.cluster.node(victim).start().unwrap();
        load.wait_acknowledged(50);
        kv.cluster.wait_in_sync_while_written().unwrap();
        assert_ne!(kv.incarnation(victim), life, "an old disk was taken for the present one");
        assert!(kv.rare(victim, "NewIncarnation") > 0.0);
    }
    load.finish(&kv);
}

/// How far a node's folder has counted, as etcd knows it.
fn count(kv: &mut Kv, node: usize) -> u64 {
    let key = format!("/local/nodes/{node}");
    let record = kv.cluster.etcd().ctl(&["get", "--print-value-only", &key]).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["count"].as_u64().unwrap()
}

#[test]
fn a_copy_of_a_running_leaders_disk_comes_back_after_all_were_killed() {
    let mut kv = Kv::start_counting();
    let load = Load::start(&kv);
    load.wait_acknowledged(50);
    let leader = kv.cluster.wait_leader().unwrap();
    kv.cluster.node(leader).freeze(true).unwrap();
    kv.cluster.node(leader).keep_copy().unwrap();
    kv.cluster.node(leader).freeze(false).unwrap();
    load.wait_acknowledged(50);
    kv.cluster.wait_in_sync_while_written().unwrap();
    if kv.cluster.wait_leader().unwrap() != leader {
        kv.cluster.ok(&["cluster", "transfer", "1", &leader.to_string()]).unwrap();
    }
    let (copied, begun) = (count(&mut kv, leader), Instant::now());
    // The copy may be one ahead of etcd.
    while count(&mut kv, leader) < copied + 2 {
        assert!(begun.elapsed() < PATIENCE, "the node does not count");
    }
    load.wait_acknowledged(50);
    let life = kv.incarnation(leader);

    (1..=3).for_each(|node| kv.cluster.node(node).kill().unwrap());
    kv.cluster.node(leader).put_back_copy().unwrap();
    // The group's record names it, and it could have itself elected at once: it is up before the others.
    kv.cluster.node(leader).start().unwrap();
    for other in [leader % 3 + 1, (leader + 1) % 3 + 1] {
        kv.cluster.node(other).start().unwrap();
    }
    load.wait_acknowledged(50);
    kv.cluster.wait_in_sync_while_written().unwrap();
    assert_ne!(kv.incarnation(leader), life, "an old disk was taken for the present one");
    load.finish(&kv);
}

#[test]
fn a_node_rejoins_under_load_after_the_log_was_compacted() {
    let mut kv = Kv::start_with_small_logs();
    let load = Load::start(&kv);
    load.wait_acknowledged(50);
    let victim = kv.follower();
    kv.kill(victim);
    let leader = kv.cluster.wait_leader().unwrap();
    let last = kv.cluster.node(leader).metric("group_log_last_index{group=\"1\"}").unwrap();
    let begun = Instant::now();
    loop {
        load.wait_acknowledged(100);
        let status = kv.cluster.ok_at(leader, &["--json", "status"]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let first = status["log_first_index"].as_f64().unwrap();
        if first > last {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the log still begins at {first}, the killed node had {last}");
    }
    kv.cluster.node(victim).start().unwrap();
    load.wait_acknowledged(50);
    kv.cluster.wait_in_sync_while_written().unwrap();
    assert!(kv.rare(victim, "SnapshotInstalled") > 0.0, "the log was enough");
    load.finish(&kv);
}
