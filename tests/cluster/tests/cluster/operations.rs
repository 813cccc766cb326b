//! What operators do to a cluster that is written to.

use crate::history::{Load, finish};
use crate::kit::Kv;

#[test]
fn leaderships_move_and_nodes_are_restarted_under_load() {
    let mut kv = Kv::start("");
    let load = Load::start(&kv.cluster.endpoints());
    for _ in 0..3 {
        load.wait_acknowledged(50);
        let target = kv.cluster.wait_leader().unwrap() % 3 + 1;
        kv.cluster.ok(&["cluster", "transfer", "1", &target.to_string()]).unwrap();
        assert_eq!(kv.cluster.wait_leader().unwrap(), target);
    }
    for node in 1..=3 {
        load.wait_acknowledged(50);
        kv.cluster.node(node).stop().unwrap();
        load.wait_acknowledged(50);
        kv.cluster.node(node).start().unwrap();
        kv.cluster.wait_in_sync_while_written().unwrap();
    }
    finish(&kv, load);
}

#[test]
fn a_node_comes_and_another_goes_under_load() {
    let kv = Kv::start_with_spare();
    let load = Load::start(&kv.cluster.endpoints());
    load.wait_acknowledged(50);
    kv.cluster.ok(&["cluster", "add", "1", "4"]).unwrap();
    kv.cluster
        .wait("four members in sync", |status| (status["record"]["isr"].as_array()?.len() == 4).then_some(()))
        .unwrap();
    let leader = kv.cluster.wait_leader().unwrap();
    if leader != 4 {
        kv.cluster.ok(&["cluster", "transfer", "1", "4"]).unwrap();
    }
    assert_eq!(kv.cluster.wait_leader().unwrap(), 4);
    load.wait_acknowledged(50);
    kv.cluster.ok(&["cluster", "remove", "1", "1"]).unwrap();
    load.wait_acknowledged(50);
    let status = kv.cluster.status().unwrap();
    assert_eq!(status["record"]["members"].as_array().unwrap().len(), 3, "{status}");
    finish(&kv, load);
}
