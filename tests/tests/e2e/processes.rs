//! Starting, stopping, killing.

use std::process::Command;

use crate::kit::{Node, binary, dev, folder};

#[test]
fn a_node_starts_is_interrupted_and_starts_again_with_what_it_had() {
    let folder = folder();
    let data = folder.path().join("data");
    let node = Node::start(&data);
    node.ok(&["kv", "put", "greeting", "hello"]);
    assert_eq!(node.interrupt(), Some(0));
    let node = Node::start(&data);
    assert_eq!(node.ok(&["kv", "get", "greeting"]), "hello");
    assert_eq!(node.interrupt(), Some(0));
}

#[test]
fn what_was_acknowledged_is_there_after_kill_nine() {
    let folder = folder();
    for round in 0..4 {
        let node = Node::start(folder.path());
        for earlier in 0..round {
            assert_eq!(node.ok(&["kv", "get", &format!("k{earlier}")]), "v", "round {round}");
        }
        node.ok(&["kv", "put", &format!("k{round}"), "v"]);
        node.kill();
    }
}

#[test]
fn a_data_folder_in_use_is_an_error_that_names_the_process() {
    let folder = folder();
    let node = Node::start(folder.path());
    let second = dev(folder.path()).output().unwrap();
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(error.contains(&format!("in use by process {}", node.pid())), "{error}");
    node.ok(&["kv", "put", "a", "1"]);
}

#[test]
fn a_bad_configuration_is_refused_before_anything_starts() {
    let folder = folder();
    let file = folder.path().join("config.toml");
    let serve = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = Command::new(binary()).arg("serve").arg("--config").arg(&file).output().unwrap();
        assert!(!output.status.success(), "{text:?} was taken");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(serve("no_such_setting = 1").contains("no_such_setting"));
    assert!(serve("this is no TOML").contains("config.toml"));
    let public = serve("[data]\naddress = \"0.0.0.0:0\"\n");
    assert!(public.contains("TLS") || public.contains("tls"), "{public}");
}

/// Most of an idle node with five tenants, in bytes.
const IDLE_BYTES_MAX: u64 = 100_000_000;

#[test]
fn an_idle_node_with_five_tenants_is_small() {
    let folder = folder();
    let node = Node::start(folder.path());
    for tenant in ["a", "b"] {
        node.ok(&["tenant", "create", tenant, "--plugin", "kv"]);
        node.ok(&["kv", "--tenant", tenant, "put", "k", "v"]);
    }
    // Compiling the plugins took memory that the allocator keeps; a node that idles was started some time ago.
    assert_eq!(node.interrupt(), Some(0));
    let node = Node::start(folder.path());
    let tenants = node.json(&["tenant", "list"]);
    assert_eq!(tenants.as_array().map(Vec::len), Some(5), "{tenants}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident * 1024 < IDLE_BYTES_MAX, "{resident} KiB");
}
