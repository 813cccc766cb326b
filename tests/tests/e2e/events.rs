//! `mortise events` beside watchers that are killed and started again: the story that README tells.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mortise_etcd_kit::{Release, Setup, TestEtcd};
use serde_json::{Value, json};

use crate::kit::binary;

/// A session's time to live, twice what etcd may take longer, and a machine that does other work.
const SOON: Duration = Duration::from_secs(30);

/// A process that ends with the test, and the lines it prints.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (to, lines) = channel();
        let (output, error) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        // Both end with the process.
        let from = to.clone();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| from.send(line))
        });
        std::thread::spawn(move || {
            BufReader::new(error).lines().map_while(Result::ok).try_for_each(|line| to.send(line))
        });
        Self { child, lines }
    }

    fn watcher(etcd: &TestEtcd, node: u64) -> Self {
        let program = mortise_artifacts::tools::binary("role_watcher").unwrap();
        let node = node.to_string();
        let mut command = Command::new(program);
        Self::start(command.args(["--node", &node, "--ttl", "2", "--etcd", &etcd.endpoints().join(",")]))
    }

    /// Waits for a line with all of these words.
    fn says(&self, words: &[&str]) {
        let (end, mut said) = (Instant::now() + SOON, Vec::new());
        loop {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("never said {words:?}: {said:#?}"));
            if words.iter().all(|word| line.contains(word)) {
                return;
            }
            said.push(line);
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already where the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn events(etcd: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).args(["events", "--cluster", "demo", "--etcd", etcd]);
    command
}

#[test]
fn events_tell_the_story_of_watchers_that_are_killed() {
    let mut etcd = TestEtcd::start(Setup::new(Release::V3_5, 1)).unwrap();
    let endpoint = etcd.endpoints().swap_remove(0);
    let story = Process::start(events(&endpoint, &[]).args(["--group", "1", "--follow"]));
    let first = Process::watcher(&etcd, 1);
    story.says(&["group 0001: leader-changed, epoch 1, leader node 1"]);
    let second = Process::watcher(&etcd, 2);
    story.says(&["group 0001: followers-added, nodes 2"]);
    second.says(&["followers-added", "nodes 2"]);
    first.kill();
    story.says(&["group 0001: leader-changed, epoch 2, leader node 2"]);
    story.says(&["group 0001: followers-removed, nodes 2"]);
    let _first = Process::watcher(&etcd, 1);
    story.says(&["group 0001: followers-added, nodes 1"]);

    let now = events(&endpoint, &["--json"]).output().unwrap();
    let now: Vec<Value> = String::from_utf8(now.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            assert!(event["revision"].take().as_u64() > Some(0), "{line}");
            event
        })
        .collect();
    let expected = [
        json!({"revision": null, "group": 1, "event": "leader-changed", "epoch": 2, "leader": 2}),
        json!({"revision": null, "group": 1, "event": "followers-added", "nodes": [1]}),
    ];
    assert_eq!(now, expected);

    etcd.kill_all().unwrap();
    story.says(&[&endpoint, "unavailable"]);
    etcd.restart_all().unwrap();
    story.says(&["etcd answers again"]);
}

#[test]
fn events_name_what_is_wrong_with_etcd_or_the_cluster() {
    let nobody = events("http://127.0.0.1:1", &[]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("http://127.0.0.1:1"));
    let mut command = Command::new(binary());
    let slashes = command.args(["events", "--cluster", "a/b"]).output().unwrap();
    assert!(!slashes.status.success());
    assert!(String::from_utf8_lossy(&slashes.stderr).contains("a/b"));
}
