//! gRPC for Python, which the example in Python is made of, in `target/tools/python`.

use std::process::Command;

use anyhow::Result;
use mortise_artifacts::{tools, workspace_root};

use crate::run::{output, run, say};

fn python() -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", tools::folder().join("python"));
    python
}

pub(super) fn found() -> Option<String> {
    let look = "import grpc, grpc_tools, grpc_status; print(grpc.__version__)";
    let version = output(python().args(["-c", look])).ok()?;
    Some(format!("{} for python3", version.trim()))
}

pub(super) fn install() -> Result<()> {
    say(
        "pip brings what examples/python/requirements.txt names to target/tools/python; this needs python3 with pip",
    );
    let requirements = workspace_root().join("examples/python/requirements.txt");
    run(python()
        .args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"])
        .arg(tools::folder().join("python"))
        .arg("--requirement")
        .arg(requirements))
}
