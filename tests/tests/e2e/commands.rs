//! The command line: what it prints, and its exit codes.

use std::io::Write;
use std::process::Stdio;

use crate::kit::{Node, folder};

#[test]
fn kv_commands_do_what_they_say() {
    let folder = folder();
    let node = Node::start(folder.path());
    node.ok(&["kv", "put", "a", "1"]);
    node.ok(&["kv", "put", "ab", "2"]);
    node.ok(&["kv", "put", "b", "3"]);
    assert_eq!(node.ok(&["kv", "get", "a"]), "1");
    let range = node.ok(&["kv", "range", "a", "--prefix"]);
    assert!(range.contains("ab") && !range.contains('3'), "{range}");
    node.ok(&["kv", "cas", "a", "--expect", "1", "10"]);
    let (code, error) = node.fails(&["kv", "cas", "a", "--expect", "1", "11"]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("compare_failed"), "{error}");
    node.ok(&["kv", "del", "a"]);
    assert_eq!(node.fails(&["kv", "get", "a"]).0, 4);
}

#[test]
fn a_write_of_the_leader_alone_prints_a_token_and_its_fate_is_told() {
    let folder = folder();
    let node = Node::start(folder.path());
    let token = node.ok(&["kv", "put", "a", "1", "--ack", "leader"]);
    assert_eq!(node.ok(&["fate", "kv", &token, "--wait"]), "committed");
    assert_eq!(node.ok(&["kv", "get", "a"]), "1");
    let (epoch, index) = token.rsplit_once('.').unwrap();
    assert_eq!(node.ok(&["fate", "kv", &format!("{epoch}.{index}000")]), "lost");
    assert_eq!(node.ok(&["fate", "kv", &format!("{epoch}000.{index}")]), "pending");
    let (code, error) = node.fails(&["fate", "kv", &format!("7{token}")]);
    assert!(code == 4 && error.contains("group"), "{error}");
    let open = r#"{"open": {"account": "ann"}}"#;
    let both = node.ok(&["--json", "write", "ledger", open, "--ack", "leader", "--wait"]);
    assert!(both.lines().count() == 2 && both.lines().all(|line| line.contains("\"token\"")), "{both}");
    assert_eq!(node.fails(&["fate", "kv", "nonsense"]).0, 2);
    assert_eq!(node.fails(&["fate", "nobody", &token]).0, 4);
}

#[test]
fn reads_are_as_fresh_as_asked() {
    let folder = folder();
    let node = Node::start(folder.path());
    node.ok(&["write", "ledger", r#"{"open": {"account": "ann"}}"#]);
    let token = node.ok(&["kv", "put", "a", "1", "--ack", "leader"]);
    for freshness in [&[][..], &["--lease"], &["--stale-ms", "0"], &["--at-least", &token]] {
        let read = |arguments: &[&str]| node.ok(&[arguments, freshness].concat());
        assert_eq!(read(&["kv", "get", "a"]), "1", "{freshness:?}");
        assert_eq!(read(&["kv", "range"]), "a\t1", "{freshness:?}");
        assert!(read(&["query", "ledger", r#"{"balance": {"account": "ann"}}"#]).contains("balance"));
    }
    // What no log holds yet is waited for.
    let later = format!("{token}000");
    let (code, error) = node.fails(&["--timeout", "1", "kv", "get", "a", "--at-least", &later]);
    assert_eq!(code, 5, "{error}");
}

#[test]
fn ledger_commands_come_as_text_as_a_file_and_from_standard_input() {
    let folder = folder();
    let node = Node::start(folder.path());
    node.ok(&["write", "ledger", r#"{"open": {"account": "bank", "overdraft": "unlimited"}}"#]);
    let file = folder.path().join("open.json");
    std::fs::write(&file, r#"{"open": {"account": "ann"}}"#).unwrap();
    node.ok(&["write", "ledger", &format!("@{}", file.display())]);
    let mut child =
        node.command(&["write", "ledger", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let transfer = br#"{"transfer": {"debit": "bank", "credit": "ann", "amount": 7}}"#;
    child.stdin.take().unwrap().write_all(transfer).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    let balance = node.ok(&["query", "ledger", r#"{"balance": {"account": "ann"}}"#]);
    assert!(balance.contains('7'), "{balance}");
    let (code, error) =
        node.fails(&["write", "ledger", r#"{"transfer": {"debit": "ann", "credit": "bank", "amount": 8}}"#]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("insufficient_funds"), "{error}");
}

#[test]
fn errors_have_exit_codes_and_say_what_is_wrong() {
    let folder = folder();
    let node = Node::start(folder.path());
    let (code, error) = node.fails(&["query", "nobody", "x"]);
    assert_eq!(code, 4, "{error}");
    assert!(error.contains("nobody"), "{error}");
    assert_eq!(node.fails(&["tenant", "show", "nobody"]).0, 4);
    let (_, error) = node.fails(&["tenant", "create", "kv", "--plugin", "kv"]);
    assert!(error.contains("exists"), "{error}");
    assert_eq!(node.fails(&["no-such-command"]).0, 2);
    let (code, error) = node.fails(&["write", "ledger", "this is no JSON"]);
    assert_eq!(code, 3, "{error}");
    // Over the limit of a command, and over that of a message.
    for bytes in [9 << 20, 17 << 20] {
        let large = folder.path().join("large");
        std::fs::write(&large, vec![b'x'; bytes]).unwrap();
        let (code, error) = node.fails(&["--json", "kv", "put", "large", &format!("@{}", large.display())]);
        assert!(
            code == 1 && error.contains("\"too_large\"") && error.contains("\"took_effect\":\"no\""),
            "{error}"
        );
    }
    assert_eq!(node.fails(&["kv", "get", "large"]).0, 4);
    // Not a node, but something of a node that serves other calls.
    let other = format!("http://{}", node.admin_address());
    let get_at = |endpoint: &str| {
        let arguments = ["--endpoint", endpoint, "--timeout", "1", "kv", "get", "a"];
        std::process::Command::new(crate::kit::binary()).args(arguments).output().unwrap()
    };
    let elsewhere = get_at(&other);
    let error = String::from_utf8_lossy(&elsewhere.stderr);
    assert!(elsewhere.status.code() == Some(1) && error.contains("does not know this call"), "{error}");
    assert_eq!(get_at("http://127.0.0.1:1").status.code(), Some(5));
}

#[test]
fn tenants_and_plugins_are_looked_after() {
    let folder = folder();
    let node = Node::start(folder.path());
    node.ok(&["kv", "put", "a", "1"]);
    let export = folder.path().join("kv.snapshot");
    let export = export.to_str().unwrap();
    node.ok(&["tenant", "export", "kv", export]);
    node.ok(&["tenant", "import", "copy", export]);
    assert_eq!(node.ok(&["kv", "--tenant", "copy", "get", "a"]), "1");
    node.ok(&["tenant", "drop", "copy", "--yes"]);
    assert_eq!(node.fails(&["kv", "--tenant", "copy", "get", "a"]).0, 4);
    let bad = folder.path().join("bad.wasm");
    std::fs::write(&bad, mortise_artifacts::bad_guest("wasi-clock").unwrap()).unwrap();
    let (_, error) = node.fails(&["plugin", "upload", bad.to_str().unwrap()]);
    assert!(error.contains("wasi:clocks"), "{error}");
    assert!(node.ok(&["plugin", "list"]).contains("ledger"));
    assert!(node.ok(&["plugin", "inspect", "kv"]).contains("kv"));
    node.ok(&["snapshot"]);
    let status = node.json(&["status"]);
    assert!(status.is_object(), "{status}");
    assert_eq!(node.interrupt(), Some(0));
    let verify = std::process::Command::new(crate::kit::binary())
        .args(["--json", "verify"])
        .arg(folder.path())
        .output()
        .unwrap();
    // The snapshot file and the exports lie where `verify` may meet them; it must still find nothing wrong.
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
}
