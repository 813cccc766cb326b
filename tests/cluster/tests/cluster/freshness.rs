//! Reads that need no leader.

use crate::kit::Kv;

#[test]
fn a_follower_that_is_left_alone_answers_what_needs_no_leader_and_nothing_else() {
    let mut kv = Kv::start();
    let token = kv.cluster.ok(&["kv", "put", "seen", "yes", "--ack", "leader"]).unwrap();
    kv.cluster.wait_in_sync().unwrap();
    let leader = kv.cluster.wait_leader().unwrap();
    let (left, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let get = |kv: &Kv, freshness: &[&str]| {
        kv.cluster.ok_at(left, &[&["--json", "--timeout", "1", "kv", "get", "seen"], freshness].concat())
    };
    // It has asked the leader how far it is: so far its answers will be right, and no further.
    get(&kv, &["--stale-ms", "600000"]).unwrap();
    kv.cluster.node(other).kill().unwrap();
    kv.cluster.node(leader).kill().unwrap();
    for freshness in [["--at-least", &token], ["--stale-ms", "600000"]] {
        assert!(get(&kv, &freshness).unwrap().contains("\"yes\""), "{freshness:?}");
    }
    for freshness in [&[][..], &["--lease"], &["--stale-ms", "1"]] {
        let error = get(&kv, freshness).unwrap_err().to_string();
        assert!(error.contains("\"exit_code\":5"), "{freshness:?}: {error}");
    }
}
