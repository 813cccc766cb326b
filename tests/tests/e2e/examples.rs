//! The examples of `examples/clients`, against a node that runs them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use crate::kit::{Node, dev_at, folder};

/// A program of `examples/clients`, for this node.
fn example(name: &str, node: &Node) -> Command {
    let mut command = Command::new(mortise_artifacts::tools::binary(name).unwrap());
    command.env("MORTISE_ENDPOINT", node.endpoint());
    command
}

fn output(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    if status.success() { Ok(stdout) } else { Err(stderr) }
}

#[test]
fn the_quick_start_says_what_it_should_also_a_second_time() {
    let folder = folder();
    let node = Node::start(folder.path());
    for balance in [20, 40] {
        let said = output(&mut example("quick_start", &node)).unwrap();
        assert!(said.contains("greeting: good morning\n"), "{said}");
        assert!(said.contains(&format!("ann has {balance}\n")), "{said}");
        assert!(said.contains("refused: insufficient_funds: "), "{said}");
    }
}

#[test]
fn many_writers_share_a_stream() {
    let folder = folder();
    let node = Node::start(folder.path());
    let said = output(example("many_writers", &node).args(["--callers", "100", "--writes", "30"])).unwrap();
    assert!(said.starts_with("3000 writes in "), "{said}");
    assert_eq!(node.ok(&["kv", "range", "--prefix", "many/0099/", "--count-only"]), "30");
}

#[test]
fn moves_happen_once_across_kill_nine() {
    let folder = folder();
    let mut node = Node::start(folder.path());
    let (endpoint, admin) = (node.address(), node.admin_address());
    let mut command = example("exactly_once", &node);
    let mut moving = command.args(["--units", "3000"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(moving.stdout.take().unwrap()).lines() {
        said.push(line.unwrap());
        // While the next moves are on their way.
        if said.len() % 12 == 0 && said.len() < 40 {
            node.kill();
            node = Node::launch(&mut dev_at(folder.path(), &endpoint, &admin));
        }
    }
    assert!(moving.wait().unwrap().success(), "{said:?}");
    assert_eq!(said.last().unwrap(), "balances: -3000 and 3000");
}

#[test]
fn files_are_stored_replaced_and_removed() {
    let folder = folder();
    let node = Node::start(&folder.path().join("data"));
    let [file, copy] = ["file", "copy"].map(|name| folder.path().join(name));
    let store = |arguments: &[&str]| output(example("file_store", &node).args(arguments));
    let (file_name, copy_name) = (file.to_str().unwrap(), copy.to_str().unwrap());
    // The second is shorter than the first: chunks of that would show.
    for bytes in [2_000_000, 300_000, 0] {
        let content: Vec<u8> =
            (0..bytes).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&file, &content).unwrap();
        store(&["write", "a file", file_name]).unwrap();
        store(&["read", "a file", copy_name]).unwrap();
        assert!(std::fs::read(&copy).unwrap() == content, "{bytes} bytes");
        let chunks = bytes.div_ceil(256 << 10).to_string();
        assert_eq!(node.ok(&["kv", "range", "--prefix", "c/", "--count-only"]), chunks);
    }
    store(&["write", "a file too", file_name]).unwrap();
    assert_eq!(store(&["list"]).unwrap(), "           0  a file\n           0  a file too\n");
    store(&["remove", "a file"]).unwrap();
    assert!(store(&["read", "a file", copy_name]).unwrap_err().contains("there is no file a file"));
    assert!(store(&["remove", "a file"]).unwrap_err().contains("there is no file a file"));
    assert_eq!(store(&["list"]).unwrap(), "           0  a file too\n");
}
