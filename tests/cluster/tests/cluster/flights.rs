//! The main job on a cluster: a slice of the 2013 New York flights goes into a ledger while nodes are killed.

use std::process::{Child, Stdio};

use mortise_artifacts::flights::{self, BALANCES, MAP, ROWS};
use mortise_cluster_kit::{LocalCluster, Setup, plugins};

/// How often the slice is repeated, so that there is time to kill somebody.
const REPEATS: usize = 120;
/// Kills, of the leader and of a follower by turns.
const KILLS: usize = 4;

/// Ends the loader with the test.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        // Gone already where it is done.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn commands(cluster: &LocalCluster) -> u64 {
    cluster.json(&["tenant", "show", "ledger"]).unwrap()["commands"].as_u64().unwrap()
}

fn check_balances(cluster: &LocalCluster) {
    for (account, expected) in BALANCES {
        let request = format!(r#"{{"balance": {{"account": "{account}"}}}}"#);
        let reply = cluster.ok(&["query", "ledger", &request]).unwrap();
        let expected = expected * REPEATS as i64;
        assert!(reply.contains(&expected.to_string()), "{account}: {reply}, expected {expected}");
    }
}

#[test]
fn flights_load_while_nodes_are_killed_and_the_balances_are_exact_on_every_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = LocalCluster::start(&Setup::new(folder.path())).unwrap();
    cluster.create_tenant(&plugins().unwrap(), "ledger").unwrap();

    let file = flights::repeated(folder.path(), REPEATS).unwrap();
    let resume = folder.path().join("resume");
    let arguments =
        ["load", "ledger", file.to_str().unwrap(), "--map", MAP, "--resume-file", resume.to_str().unwrap()];
    let log = std::fs::File::create(folder.path().join("load.log")).unwrap();
    let load = cluster.command(&arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let mut load = Load(load);

    let first = cluster.status().unwrap()["record"]["epoch"].as_u64().unwrap();
    let mut killed_while_loading = 0;
    for kill in 0..KILLS {
        let before = commands(&cluster);
        while commands(&cluster) == before && load.0.try_wait().unwrap().is_none() {}
        let leader = cluster.wait_leader().unwrap();
        let victim = if kill % 2 == 0 { leader } else { leader % 3 + 1 };
        killed_while_loading += usize::from(load.0.try_wait().unwrap().is_none());
        cluster.node(victim).kill().unwrap();
        cluster.wait_leader().unwrap();
        cluster.node(victim).start().unwrap();
        cluster.wait_in_sync_while_written().unwrap();
    }
    let ended = load.0.wait().unwrap();
    let told = std::fs::read_to_string(folder.path().join("load.log")).unwrap();
    assert!(ended.success(), "the load failed: {told}");
    assert_eq!(
        killed_while_loading, KILLS,
        "the load was over before the last kill: repeat the slice more often"
    );

    let status = cluster.wait_in_sync().unwrap();
    let epochs = status["record"]["epoch"].as_u64().unwrap() - first;
    assert!(epochs >= KILLS as u64 / 2, "{epochs} changes of leader");
    assert_eq!(commands(&cluster), ROWS * REPEATS as u64, "every row once");
    for node in 1..=3 {
        let number = node.to_string();
        if cluster.wait_leader().unwrap() != node {
            cluster.ok(&["cluster", "transfer", "1", &number]).unwrap();
        }
        assert_eq!(cluster.wait_leader().unwrap(), node);
        check_balances(&cluster);
    }
}
