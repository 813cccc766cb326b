//! Leaders that die, stop and give up.

use crate::kit::Kv;

#[test]
fn what_was_acknowledged_survives_the_leader() {
    let mut kv = Kv::start();
    let first = kv.cluster.wait_leader().unwrap();
    kv.put("a", "1");
    kv.cluster.node(first).kill().unwrap();
    let second = kv.cluster.wait_leader().unwrap();
    assert_ne!(first, second);
    assert_eq!(kv.get("a"), "1");
    kv.put("b", "2");
    kv.cluster.node(first).start().unwrap();
    let status = kv.cluster.wait_in_sync().unwrap();
    assert!(status["record"]["epoch"].as_u64().unwrap() >= 2, "{status}");
    // The one that came back has it all, too: it leads, and is asked.
    kv.cluster.ok(&["cluster", "transfer", "1", &first.to_string()]).unwrap();
    assert_eq!(kv.cluster.wait_leader().unwrap(), first);
    assert_eq!((kv.get("a"), kv.get("b")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn a_leader_that_sleeps_past_its_leases_finds_another_in_its_place() {
    let mut kv = Kv::start();
    let first = kv.cluster.wait_leader().unwrap();
    kv.put("a", "1");
    kv.cluster.node(first).freeze(true).unwrap();
    let second = kv.cluster.wait_leader().unwrap();
    assert_ne!(first, second);
    // A single write that was sent to a node that hangs may have taken effect, and is not sent again: the new one is asked.
    kv.cluster.ok_at(second, &["kv", "put", "a", "2"]).unwrap();
    kv.cluster.node(first).freeze(false).unwrap();
    kv.cluster.wait_in_sync().unwrap();
    assert_eq!(kv.get("a"), "2");
}
