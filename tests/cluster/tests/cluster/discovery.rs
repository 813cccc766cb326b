//! Clients that know etcd alone.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mortise_client::discovery::{Discovery, DiscoveryOptions, GroupEvent, GroupEvents};
use mortise_client::kv::Kv;
use mortise_client::{Client, Options, WriterOptions};
use mortise_cluster_kit::{LocalCluster, PATIENCE, Setup, plugins};

/// The next event that is what is looked for.
async fn until<T>(events: &mut GroupEvents, mut found: impl FnMut(GroupEvent) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = found(events.next().await.unwrap()) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap()
}

/// A running `follow_groups`, stopped when it goes out of scope.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(etcd: &[String]) -> Self {
        let mut program = Command::new(mortise_artifacts::tools::binary("follow_groups").unwrap());
        program.args(["--cluster", "local", "--etcd", &etcd.join(",")]);
        let mut child = program.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // The test ends before the lines do.
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// Waits until it says this.
    fn wait(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => said.push(line),
                Err(error) => panic!("{error} behind {said:?}"),
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn the_example_says_what_happens_to_groups() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = LocalCluster::start(&Setup::new(folder.path())).unwrap();
    let first = cluster.wait_leader().unwrap();
    let address = |cluster: &LocalCluster, number: usize| {
        cluster.nodes()[number - 1].data_url().trim_start_matches("http://").to_owned()
    };
    let follower = Follower::start(&cluster.etcd().endpoints());
    let led = format!("leader {}", address(&cluster, first));
    follower.wait(|line| line.starts_with("group 1: epoch ") && line.ends_with(&led));
    follower.wait(|line| line == format!("  some live leader: {}", address(&cluster, first)));

    cluster.node(first).kill().unwrap();
    let next = cluster.wait_leader().unwrap();
    let led = format!("leader {}", address(&cluster, next));
    follower.wait(|line| line.starts_with("group 1: epoch ") && line.ends_with(&led));

    // A group that comes is told without a restart.
    cluster.node(first).start().unwrap();
    cluster.ok(&["group", "create", "2", "--nodes", "1,2,3"]).unwrap();
    let second = cluster.wait_leader_of(2).unwrap();
    let led = format!("leader {}", address(&cluster, second));
    follower.wait(|line| line.starts_with("group 2: epoch ") && line.ends_with(&led));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_follows_groups_as_they_come_and_change_leaders() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = LocalCluster::start(&Setup::new(folder.path())).unwrap();
    cluster.create_tenant(&plugins().unwrap(), "kv").unwrap();
    let options = DiscoveryOptions::new("local", cluster.etcd().endpoints());
    let discovery = Discovery::start(&options).await.unwrap();
    assert_eq!(discovery.nodes().len(), 3);
    for node in cluster.nodes() {
        assert!(node.ready().contains(", peers at 127.0.0.1:"), "{}", node.ready());
    }
    let mut events = discovery.events();
    let first = until(&mut events, |event| match event {
        GroupEvent::Added(group) => Some(group),
        _ => None,
    })
    .await;
    assert_eq!((first.id.0, first.members.len()), (1, 3));
    let led = first.leader.unwrap();
    assert_eq!(discovery.any_leader().map(|node| node.id), Some(led.id));

    let tenant = Client::discover(&Options::default(), &discovery).unwrap().tenant("kv");
    let writer = tenant.writer(WriterOptions::default()).await.unwrap();
    let kv = Kv::with_writer(tenant, writer);
    kv.put("before", "1", 0).await.unwrap();

    // The leader dies: its session's end, and another leader, are told, and writes go on.
    cluster.node(led.id.0 as usize).kill().unwrap();
    kv.put("after", "2", 0).await.unwrap();
    let next = until(&mut events, |event| match event {
        GroupEvent::Changed(group) => group.leader.filter(|leader| leader.id != led.id),
        _ => None,
    })
    .await;
    discovery.failed(next.id);
    assert_eq!(discovery.any_leader().map(|node| node.id), Some(next.id), "there is no other");

    // A second group takes part without a restart, with the node that comes back among its members.
    cluster.node(led.id.0 as usize).start().unwrap();
    cluster.ok(&["group", "create", "2", "--nodes", "1,2,3"]).unwrap();
    until(&mut events, |event| match event {
        GroupEvent::Added(group) | GroupEvent::Changed(group) => {
            (group.id.0 == 2 && group.leader.is_some()).then_some(())
        }
        GroupEvent::Removed(group) => panic!("group {group} is gone"),
    })
    .await;
    assert_eq!(discovery.groups().len(), 2);
    let seen = kv.get("before").await.unwrap().map(|record| record.value);
    assert_eq!(seen.as_deref(), Some(b"1".as_slice()));
    drop(kv);
    // Nothing is told of an etcd that is not there.
    cluster.etcd().kill_all().unwrap();
    let error =
        Discovery::start(&DiscoveryOptions { timeout: Duration::from_secs(2), ..options }).await.unwrap_err();
    assert!(error.to_string().contains("etcd"), "{error}");
}
