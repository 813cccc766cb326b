//! What operators do to a cluster that is written to.

use crate::kit::Kv;
use crate::load::Load;

#[test]
fn leaderships_move_and_nodes_are_restarted_under_load() {
    let mut kv = Kv::start();
    let load = Load::start(&kv);
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
        kv.restart(node);
    }
    load.finish(&kv);
}

/// What `mortise verify` says of a node's folder, and whether it found it sound.
fn verify(kv: &Kv, node: usize) -> (serde_json::Value, bool) {
    let folder = kv.cluster.nodes()[node - 1].data();
    let output = kv.cluster.command(&["--json", "verify"]).arg(folder).output().unwrap();
    let told = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    (serde_json::from_slice(told).unwrap(), output.status.success())
}

#[test]
fn a_nodes_folder_is_verified_group_by_group() {
    let mut kv = Kv::start();
    kv.put("a", "1");
    let leader = kv.cluster.wait_leader().unwrap();
    kv.cluster.ok_at(leader, &["snapshot"]).unwrap();
    kv.cluster.wait_in_sync().unwrap();
    let (told, sound) = verify(&kv, leader);
    assert!(!sound && told.to_string().contains("in use"), "{told}");

    kv.kill(leader);
    let (told, sound) = verify(&kv, leader);
    let group = &told["groups"][0];
    assert!(sound && told["sound"] == true && group["sound"] == true, "{told}");
    assert_eq!((&group["folder"], &group["tenants"][0]["commands"]), (&"0001".into(), &1.into()), "{told}");
    assert_eq!(group["snapshots"].as_array().unwrap().len(), 1, "{told}");

    // A byte in the middle of the first record of the log.
    let group = kv.cluster.node(leader).data().join("groups/0001");
    let first = std::fs::read_dir(group.join("log")).unwrap().map(|file| file.unwrap().path()).min().unwrap();
    let mut bytes = std::fs::read(&first).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[written / 2] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let (told, sound) = verify(&kv, leader);
    assert!(!sound && told["sound"] == false, "{told}");
    assert!(told["groups"][0]["problems"][0].as_str().unwrap().starts_with("log: "), "{told}");

    // The node itself puts it aside, and gets the data from the others.
    kv.restart(leader);
    kv.kill(leader);
    let (told, sound) = verify(&kv, leader);
    assert!(sound && told["set_aside"][0] == "0001.damaged-1", "{told}");
}

#[test]
fn a_node_comes_and_another_goes_under_load() {
    let kv = Kv::start_with_spare();
    let load = Load::start(&kv);
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
    load.finish(&kv);
}
