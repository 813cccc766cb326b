//! Watchers as processes: killed, stopped, doubled.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mortise_etcd_kit::{Release, Setup, TestEtcd, freeze};
use rustix::process::Pid;

/// A TTL of 2 s, that etcd may take up to 2 s longer to notice; and a machine that does other work.
const SOON: Duration = Duration::from_secs(30);

struct Watcher {
    process: Child,
    lines: Receiver<String>,
    printed: Vec<String>,
}

impl Watcher {
    fn start(etcd: &TestEtcd, node: u64) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_role_watcher"))
            .args(["--node", &node.to_string(), "--ttl", "2", "--etcd", &etcd.endpoints().join(",")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (to, lines) = channel();
        // Ends with the process.
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        Self { process, lines, printed: Vec::new() }
    }

    /// Waits until it prints a line with all of these words.
    fn says(&mut self, words: &[&str]) {
        self.says_all(&[words]);
    }

    /// Waits until it printed a line for each of these, in any order.
    fn says_all(&mut self, lines: &[&[&str]]) {
        let (end, mut missing) = (Instant::now() + SOON, lines.to_vec());
        while !missing.is_empty() {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("never said {missing:?}: {:#?}", self.printed));
            missing.retain(|words| !words.iter().all(|word| line.contains(word)));
            self.printed.push(line);
        }
    }

    /// Epochs in which it said that it leads.
    fn led(&mut self) -> Vec<u64> {
        self.printed.extend(self.lines.try_iter());
        let own = self.printed.iter().filter(|line| line.contains("became-leader"));
        let epoch = |line: &String| line.split("epoch ").nth(1)?.split([' ', ',']).next()?.parse().ok();
        own.filter_map(epoch).collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // A process that ended already cannot be killed, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn no_epoch_has_two_leaders(watchers: &mut [&mut Watcher]) {
    let mut leaders: BTreeMap<u64, usize> = BTreeMap::new();
    for (number, watcher) in watchers.iter_mut().enumerate() {
        for epoch in watcher.led() {
            let before = leaders.insert(epoch, number);
            assert!(before.is_none(), "epoch {epoch} has two leaders");
        }
    }
    assert!(leaders.len() > 1, "nobody took over");
}

#[test]
fn a_killed_leader_is_followed_and_returns_as_a_follower() {
    let etcd = TestEtcd::start(Setup::new(Release::V3_5, 1)).unwrap();
    let mut first = Watcher::start(&etcd, 1);
    first.says(&["became-leader", "epoch 1 "]);
    let mut second = Watcher::start(&etcd, 2);
    second.says(&["became-follower at start", "epoch 1", "leader node 1"]);
    second.says(&["followers-added", "nodes 2"]);
    first.says(&["followers-added", "nodes 2"]);
    first.process.kill().unwrap();
    second.says(&["became-leader", "epoch 2 "]);
    let mut again = Watcher::start(&etcd, 1);
    again.says(&["node 1, boot 2"]);
    again.says(&["became-follower at start", "epoch 2", "leader node 2"]);
    second.says_all(&[&["followers-added", "nodes 1"], &["in sync: 1 2"]]);
    second.process.kill().unwrap();
    again.says(&["became-leader", "epoch 3 "]);
    no_epoch_has_two_leaders(&mut [&mut first, &mut second, &mut again]);
}

#[test]
fn a_leader_that_was_stopped_past_its_ttl_wakes_up_offline_and_follows() {
    let etcd = TestEtcd::start(Setup::new(Release::V3_4, 1)).unwrap();
    let mut first = Watcher::start(&etcd, 1);
    first.says(&["became-leader", "epoch 1 "]);
    let mut second = Watcher::start(&etcd, 2);
    first.says(&["followers-added", "nodes 2"]);
    freeze(Pid::from_child(&first.process), true).unwrap();
    second.says(&["became-leader", "epoch 2 "]);
    freeze(Pid::from_child(&first.process), false).unwrap();
    // Its session and its watch wake up independently.
    first.says_all(&[&["session: OFFLINE"], &["became-follower", "epoch 2", "leader node 2"]]);
    second.says(&["followers-added", "nodes 1"]);
    no_epoch_has_two_leaders(&mut [&mut first, &mut second]);
}

#[test]
fn of_two_processes_under_one_name_the_older_stops() {
    let etcd = TestEtcd::start(Setup::new(Release::V3_5, 1)).unwrap();
    let mut older = Watcher::start(&etcd, 1);
    older.says(&["became-leader", "epoch 1 "]);
    let mut newer = Watcher::start(&etcd, 1);
    older.says(&["session: superseded by boot 2"]);
    assert_eq!(older.process.wait().unwrap().code(), Some(3));
    // It elects itself into a new epoch: the record named another process.
    newer.says(&["became-leader", "epoch 2 "]);
    no_epoch_has_two_leaders(&mut [&mut older, &mut newer]);
}
