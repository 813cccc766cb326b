//! The examples in Python: gRPC's own packages and our .proto files, over several leaders.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use mortise_artifacts::{tools, workspace_root};
use mortise_cluster_kit::{LocalCluster, PATIENCE, Setup, plugins};
use mortise_etcd_kit::freeze;
use rustix::process::Pid;
use serde_json::Value;

const UNITS: i64 = 1000;

/// python3, with the packages that set-up installs and the modules made in `stubs`.
fn python(stubs: &Path) -> Command {
    let packages = tools::folder().join("python");
    assert!(packages.is_dir(), "`cargo xtask setup` installs gRPC's packages for Python");
    let path: OsString = std::env::join_paths([packages.as_path(), stubs]).unwrap();
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(workspace_root());
    python
}

fn make_stubs(stubs: &Path) {
    std::fs::create_dir(stubs).unwrap();
    let made = python(stubs)
        .args(["-m", "grpc_tools.protoc", "-I", "proto/proto", "--python_out"])
        .arg(stubs)
        .arg("--grpc_python_out")
        .arg(stubs)
        .args(["mortise/v1/common.proto", "mortise/v1/data.proto"])
        .status();
    assert!(made.unwrap().success());
}

/// A running `watch.py`, stopped when it goes out of scope.
struct Watcher(Child);

impl Watcher {
    fn start(stubs: &Path, endpoints: &str, arguments: &[&str]) -> Self {
        let mut program = python(stubs);
        program.args(["examples/python/watch.py", "--endpoint", endpoints]).args(arguments);
        Self(program.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// What it prints, up to the line that is wanted.
    fn read_until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut told: Vec<Value> = Vec::new();
        for line in BufReader::new(self.0.stdout.take().unwrap()).lines() {
            told.push(serde_json::from_str(&line.unwrap()).unwrap());
            if told.last().is_some_and(&wanted) {
                break;
            }
        }
        told
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Gone already where it has printed all.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each command once and in order, as it was written, and each unit as it arrived.
fn check_told(told: &[Value]) {
    let sequences: Vec<u64> = told.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=told.len() as u64).collect::<Vec<_>>(), "no gap and no repeat");
    let transfers = told.iter().filter(|event| !event["command"]["transfer"].is_null());
    let balances: Vec<i64> = transfers
        .filter(|event| event["refused"].is_null())
        .map(|event| event["reply"]["transfer"]["credit_balance"].as_i64().unwrap())
        .collect();
    assert_eq!(balances, (1..=UNITS).collect::<Vec<_>>());
    let mut epochs: Vec<u64> = told.iter().map(|event| event["epoch"].as_u64().unwrap()).collect();
    assert!(epochs.is_sorted());
    epochs.dedup();
    assert!(epochs.len() >= 3, "leaders changed: {epochs:?}");
}

#[test]
fn python_moves_every_unit_once_and_watches_each_while_leaders_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = LocalCluster::start(&Setup::new(folder.path())).unwrap();
    cluster.create_watched_tenant(&plugins().unwrap(), "ledger").unwrap();
    let stubs = folder.path().join("stubs");
    make_stubs(&stubs);

    let mut watcher = Watcher::start(&stubs, &cluster.endpoints(), &[]);
    let (sender, told) = mpsc::channel();
    std::thread::spawn(move || {
        sender.send(watcher.read_until(|event| event["reply"]["transfer"]["credit_balance"] == UNITS))
    });
    let mut program = python(&stubs)
        .args(["examples/python/transfers.py", "--units", &UNITS.to_string()])
        .args(["--endpoint", &cluster.endpoints()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut said, mut killed) = (Vec::new(), Vec::new());
    for line in BufReader::new(program.stdout.take().unwrap()).lines() {
        said.push(line.unwrap());
        if [2, 5].contains(&said.len()) {
            // It is held meanwhile, lest it has moved all before the leader is found: it meets the death in mid-work.
            freeze(Pid::from_child(&program), true).unwrap();
            cluster.wait_in_sync().unwrap();
            let leader = cluster.wait_leader().unwrap();
            cluster.node(leader).kill().unwrap();
            freeze(Pid::from_child(&program), false).unwrap();
            killed.push(leader);
        } else if let Some(leader) = killed.last().filter(|_| [3, 6].contains(&said.len())) {
            cluster.node(*leader).start().unwrap();
        }
    }
    assert!(program.wait().unwrap().success(), "{said:?}");
    assert_eq!(killed.len(), 2, "{said:?}");
    assert!(said.contains(&"refused, as it should be: insufficient_funds".to_owned()), "{said:?}");
    assert_eq!(said.last().unwrap(), &format!("{UNITS} units arrived"));
    let leaders: std::collections::BTreeSet<&str> =
        said.iter().filter_map(|line| line.split_once(", by ")).map(|(_, leader)| leader).collect();
    assert!(leaders.len() >= 2, "{said:?}");

    let told = told.recv_timeout(PATIENCE).unwrap();
    check_told(&told);
    // Another watcher goes on where one was stopped.
    let again = ["--sequence", "101", "--limit", "100"];
    let again =
        Watcher::start(&stubs, &cluster.endpoints(), &again).read_until(|event| event["sequence"] == 200);
    assert_eq!(again, told[100..200]);
}
