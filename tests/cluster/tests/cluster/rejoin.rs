//! Nodes that come back with less than they had.

use crate::kit::Kv;

#[test]
fn a_wiped_node_gets_everything_anew() {
    let mut kv = Kv::start("");
    let leader = kv.cluster.wait_leader().unwrap();
    let follower = leader % 3 + 1;
    kv.put("a", "1");
    // The log that the snapshot covers is gone: the wiped node can only come back by the snapshot.
    kv.cluster.node(follower).kill().unwrap();
    kv.cluster.node(follower).wipe().unwrap();
    kv.put("b", "2");
    kv.cluster.ok_at(leader, &["snapshot"]).unwrap();
    kv.cluster.node(follower).start().unwrap();
    let status = kv.cluster.wait_in_sync().unwrap();
    let incarnations: Vec<_> = status["record"]["members"].as_array().unwrap().iter().collect();
    assert_eq!(incarnations.len(), 3, "{status}");
    // It leads alone now: what it has is all there is.
    kv.cluster.ok(&["cluster", "transfer", "1", &follower.to_string()]).unwrap();
    assert_eq!(kv.cluster.wait_leader().unwrap(), follower);
    assert_eq!((kv.get("a"), kv.get("b")), ("1".to_owned(), "2".to_owned()));
}
