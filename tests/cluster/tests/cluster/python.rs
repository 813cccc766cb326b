//! The example in Python: gRPC's own packages and our .proto files, over several leaders.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use mortise_artifacts::{tools, workspace_root};
use mortise_cluster_kit::{LocalCluster, Setup, plugins};

/// python3, with the packages that set-up installs and the modules made in `stubs`.
fn python(stubs: &Path) -> Command {
    let packages = tools::folder().join("python");
    assert!(packages.is_dir(), "`cargo xtask setup` installs gRPC's packages for Python");
    let path: OsString = std::env::join_paths([packages.as_path(), stubs]).unwrap();
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", path).current_dir(workspace_root());
    python
}

#[test]
fn python_moves_every_unit_once_while_leaders_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = LocalCluster::start(&Setup::new(folder.path())).unwrap();
    cluster.create_tenant(&plugins().unwrap(), "ledger").unwrap();
    let stubs = folder.path().join("stubs");
    std::fs::create_dir(&stubs).unwrap();
    let made = python(&stubs)
        .args(["-m", "grpc_tools.protoc", "-I", "proto/proto", "--python_out"])
        .arg(&stubs)
        .arg("--grpc_python_out")
        .arg(&stubs)
        .args(["mortise/v1/common.proto", "mortise/v1/data.proto"])
        .status();
    assert!(made.unwrap().success());

    let mut program = python(&stubs)
        .args(["examples/python/transfers.py", "--units", "400", "--endpoint", &cluster.endpoints()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut said, mut killed) = (Vec::new(), Vec::new());
    for line in BufReader::new(program.stdout.take().unwrap()).lines() {
        said.push(line.unwrap());
        // It goes on writing meanwhile.
        if [2, 5].contains(&said.len()) {
            let leader = cluster.wait_leader().unwrap();
            cluster.node(leader).kill().unwrap();
            killed.push(leader);
        } else if let Some(leader) = killed.last().filter(|_| [3, 6].contains(&said.len())) {
            cluster.node(*leader).start().unwrap();
            cluster.wait_in_sync_while_written().unwrap();
        }
    }
    assert!(program.wait().unwrap().success(), "{said:?}");
    assert_eq!(killed.len(), 2, "{said:?}");
    assert!(said.contains(&"refused, as it should be: insufficient_funds".to_owned()), "{said:?}");
    assert_eq!(said.last().unwrap(), "400 units arrived");
    let leaders: std::collections::BTreeSet<&str> =
        said.iter().filter_map(|line| line.split_once(", by ")).map(|(_, leader)| leader).collect();
    assert!(leaders.len() >= 2, "{said:?}");
}
