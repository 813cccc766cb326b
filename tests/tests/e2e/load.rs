//! The main job: a slice of the 2013 New York flights into a ledger, with everything killed on the way.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mortise_artifacts::flights::{self, BALANCES, MAP, ROWS};

use crate::kit::{Node, folder};

/// How often the slice is repeated where something is to be killed before it is loaded.
const REPEATS: u64 = 40;

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

fn load_arguments<'a>(file: &'a str, resume: &'a str) -> Vec<&'a str> {
    vec!["--json", "load", "ledger", file, "--map", MAP, "--resume-file", resume]
}

fn spawn_load(node: &Node, file: &str, resume: &str) -> Child {
    node.command(&load_arguments(file, resume)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn commands(node: &Node) -> u64 {
    node.json(&["tenant", "show", "ledger"])["commands"].as_u64().unwrap()
}

fn check_balances(node: &Node, times: u64) {
    for (account, expected) in BALANCES {
        let expected = expected * times as i64;
        let reply = node.ok(&["query", "ledger", &format!(r#"{{"balance": {{"account": "{account}"}}}}"#)]);
        let found: serde_json::Value = serde_json::from_str(&reply).unwrap();
        assert!(contains_number(&found, expected), "{account}: {reply}, expected {expected}");
    }
}

fn contains_number(value: &serde_json::Value, number: i64) -> bool {
    match value {
        serde_json::Value::Number(found) => found.as_i64() == Some(number),
        serde_json::Value::Object(fields) => fields.values().any(|field| contains_number(field, number)),
        _ => false,
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_slice_loads_and_balances() {
    let folder = folder();
    let node = Node::start(&folder.path().join("data"));
    let resume = folder.path().join("resume").to_str().unwrap().to_owned();
    node.ok(&load_arguments(&text(flights::slice()), &resume));
    check_balances(&node, 1);
    assert_eq!(commands(&node), ROWS);
}

#[test]
fn node_and_loader_are_killed_in_the_middle_and_nothing_is_lost_or_applied_twice() {
    let folder = folder();
    let data = folder.path().join("data");
    let resume = folder.path().join("resume").to_str().unwrap().to_owned();
    let file = text(flights::repeated(folder.path(), REPEATS as usize).unwrap());
    for round in 1..=3 {
        let node = Node::start(&data);
        let before = commands(&node);
        let mut load = spawn_load(&node, &file, &resume);
        wait_until("some rows", || commands(&node) > before);
        if round == 2 {
            load.kill().unwrap();
        }
        node.kill();
        // Without its node the loader waits for as long as its patience says; an impatient user ends it.
        let _ = load.kill();
        assert!(!load.wait().unwrap().success(), "round {round}: killed before it was complete");
    }
    let node = Node::start(&data);
    let at = commands(&node);
    assert!(at > 0 && at < ROWS * REPEATS, "{at} rows were loaded when the last one was killed");
    let done = node.ok(&load_arguments(&file, &resume));
    assert!(!done.contains("\"resumed_after\": 0,"), "{done}");
    check_balances(&node, REPEATS);
    assert_eq!(commands(&node), ROWS * REPEATS, "every row once");
}
