//! `mortise watch` and `mortise kv watch`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::kit::{Node, folder};

/// The lines of JSON that a command prints.
fn lines(node: &Node, arguments: &[&str]) -> Vec<Value> {
    let text = node.ok(&[&["--json"], arguments].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_written_is_printed_as_it_happens() {
    let folder = folder();
    let node = Node::start(folder.path());
    node.ok(&["kv", "put", "a", "1"]);
    let mut child = node.command(&["kv", "watch", "--limit", "3", "--from", "1"]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(printed.next().unwrap(), "1\tPUT\ta\t1");
    node.ok(&["kv", "put", "b\u{7}", "2"]);
    assert_eq!(printed.next().unwrap(), "2\tPUT\t0x6207\t2");
    node.ok(&["kv", "del", "a"]);
    assert_eq!(printed.next().unwrap(), "3\tDELETE\ta");
    assert!(child.wait().unwrap().success());
    node.ok(&["kv", "del", "b", "--prefix"]);
    let range = lines(&node, &["kv", "watch", "--prefix", "b", "--from", "3", "--limit", "1"]);
    assert_eq!((&range[0]["event"], &range[0]["start"]), (&json!("delete-range"), &json!("b")));

    node.ok(&["write", "ledger", r#"{"open": {"account": "ann"}}"#]);
    node.fails(&["write", "ledger", r#"{"transfer": {"debit": "ann", "credit": "ann", "amount": 1}}"#]);
    node.ok(&["write", "ledger", r#"{"open": {"account": "bob"}}"#]);
    let ledger = lines(&node, &["watch", "ledger", "--oldest", "--limit", "2"]);
    assert_eq!(ledger[0]["command"], json!({"open": {"account": "ann"}}));
    assert_eq!((&ledger[0]["sequence"], &ledger[1]["sequence"]), (&json!(1), &json!(2)));
    assert!(!ledger[0]["effects"].as_array().unwrap().is_empty());
    let again = node.ok(&["watch", "ledger", "--oldest", "--limit", "1"]);
    assert!(again.starts_with("1\t{\"open\": {\"account\": \"ann\"}}\t"), "{again}");
}

#[test]
fn what_cannot_be_watched_is_an_error_that_says_what_to_do() {
    let folder = folder();
    let node = Node::start(folder.path());
    node.ok(&["tenant", "create", "unwatched", "--plugin", "kv"]);
    let (code, error) = node.fails(&["watch", "unwatched"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("--watch"), "{error}");
    assert_eq!(node.fails(&["watch", "nobody"]).0, 4);
    let (_, error) = node.fails(&["kv", "watch", "--from", "9"]);
    assert!(error.contains("not reached"), "{error}");
    assert_eq!(node.fails(&["kv", "watch", "--from", "9", "--oldest"]).0, 2);
}
