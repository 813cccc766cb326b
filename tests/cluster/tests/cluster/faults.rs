//! Histories stay possible while processes are killed and stopped, links are cut, and etcd is away.

use mortise_cluster_kit::Cut;

use crate::kit::Kv;
use crate::load::Load;

#[test]
fn leaders_are_killed_and_stopped_again_and_again() {
    let mut kv = Kv::start();
    let load = Load::start(&kv);
    let before = kv.cluster.epoch().unwrap();
    for _ in 0..2 {
        load.wait_acknowledged(50);
        let leader = kv.cluster.wait_leader().unwrap();
        kv.cluster.node(leader).kill().unwrap();
        load.wait_acknowledged(50);
        kv.restart(leader);

        let leader = kv.cluster.wait_leader().unwrap();
        kv.cluster.node(leader).freeze(true).unwrap();
        // Nobody but another leader can acknowledge this, after the leases have run out.
        load.wait_acknowledged(50);
        kv.cluster.node(leader).freeze(false).unwrap();
        load.wait_acknowledged(50);
        kv.cluster.wait_in_sync_while_written().unwrap();
    }
    assert!(kv.cluster.epoch().unwrap() >= before + 4, "four leaders were taken away");
    load.finish(&kv);
}

#[test]
fn followers_are_killed_again_and_again() {
    let mut kv = Kv::start();
    let load = Load::start(&kv);
    for kill in 0..4 {
        load.wait_acknowledged(30);
        let leader = kv.cluster.wait_leader().unwrap();
        let follower = (leader + kill % 2) % 3 + 1;
        kv.kill(follower);
        load.wait_acknowledged(30);
        kv.restart(follower);
    }
    load.finish(&kv);
}

#[test]
fn links_are_cut_both_ways_and_one_way() {
    let kv = Kv::start_with_links();
    let links = kv.cluster.links().unwrap();
    let load = Load::start(&kv);
    let before = kv.cluster.epoch().unwrap();
    for _ in 0..2 {
        load.wait_acknowledged(50);
        let leader = kv.cluster.wait_leader().unwrap();
        let others = [leader % 3 + 1, (leader + 1) % 3 + 1];
        let sent = || others.map(|other| links.held_bytes(leader, other)).iter().sum::<u64>();
        let answered = || others.map(|other| links.held_bytes(other, leader)).iter().sum::<u64>();
        let held = (sent(), answered());
        links.isolate(leader, true);
        load.wait_acknowledged(50);
        links.isolate(leader, false);
        assert!(sent() > held.0 && answered() > held.1, "nothing was cut off");
        kv.cluster.wait_in_sync_while_written().unwrap();

        // One way only: a follower hears the leader, and is not heard.
        let leader = kv.cluster.wait_leader().unwrap();
        let follower = leader % 3 + 1;
        let held = (links.held_bytes(leader, follower), links.held_bytes(follower, leader));
        links.set(leader, follower, Cut { forth: false, back: true });
        links.set(follower, leader, Cut { forth: true, back: false });
        load.wait_acknowledged(50);
        links.isolate(follower, false);
        assert_eq!(links.held_bytes(leader, follower), held.0, "the follower was to hear the leader");
        assert!(links.held_bytes(follower, leader) > held.1, "the leader was not to hear the follower");
        kv.cluster.wait_in_sync_while_written().unwrap();
    }
    assert!(kv.cluster.epoch().unwrap() >= before + 2, "two leaders were cut off");
    load.finish(&kv);
}

#[test]
fn etcd_is_stopped_and_started_again() {
    let mut kv = Kv::start();
    let load = Load::start(&kv);
    let before = kv.cluster.epoch().unwrap();
    for _ in 0..2 {
        load.wait_acknowledged(50);
        kv.cluster.etcd().kill_all().unwrap();
        load.wait_acknowledged(100);
        kv.cluster.etcd().restart_all().unwrap();
        let leader = kv.cluster.wait_leader().unwrap();
        kv.cluster.node(leader).kill().unwrap();
        load.wait_acknowledged(50);
        kv.restart(leader);
    }
    assert!(kv.cluster.epoch().unwrap() >= before + 2, "two leaders were killed");
    load.finish(&kv);
}
