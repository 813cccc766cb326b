//! The node's process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mortise_client::Options;

use super::Arguments;
use crate::process::Process;

/// How long a node may take to start: compiling its plugins included.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long it may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running node. Killed when dropped; [`Node::stop`] ends it properly.
pub(super) struct Node {
    child: Child,
    data: String,
    admin: String,
}

impl Node {
    /// Starts `mortise dev` with its data in `folder`, and returns when it serves.
    pub(super) fn start(arguments: &Arguments, folder: &Path) -> Result<Self> {
        let binary = binary(arguments)?;
        let (data, admin) = (free_address()?, free_address()?);
        let log = folder.join("node.log");
        let errors = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(&binary);
        command.arg("dev").arg("--plugins").arg(arguments.common.plugins());
        command.arg("--data").arg(folder.join("node")).args(["--address", &data, "--admin-address", &admin]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn();
        let mut child = child.with_context(|| format!("start {}", binary.display()))?;
        let output = child.stdout.take().context("the node has no output")?;
        let node = Self { child, data, admin };
        let (ready, is_ready) = mpsc::channel();
        // Goes on reading after that, so that the node never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.starts_with("ready") {
                    // Nobody waits for a second such line.
                    let _ = ready.send(());
                }
            }
        });
        if is_ready.recv_timeout(START_TIMEOUT).is_err() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("{} dev does not get ready. It said:\n{said}", binary.display());
        }
        Ok(node)
    }

    /// How to reach it.
    pub(super) fn options(&self) -> Options {
        Options {
            endpoints: vec![self.endpoint()],
            admin_endpoints: vec![format!("http://{}", self.admin)],
            ..Options::default()
        }
    }

    /// Where it serves data.
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.data)
    }

    /// Where it serves administration, as host and port.
    pub(super) fn admin_address(&self) -> &str {
        &self.admin
    }

    pub(super) fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    /// Stops it as an operator would, and waits for its end.
    pub(super) fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the node does not stop within {STOP_TIMEOUT:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary(arguments: &Arguments) -> Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("mortise"));
    let binary = arguments.binary.clone().map_or_else(beside, Ok::<_, std::io::Error>)?;
    if !binary.exists() {
        let hint = "cargo xtask build makes it in release mode";
        bail!("there is no {}: {hint}, or name another with --binary", binary.display());
    }
    Ok(binary)
}

/// An address of this machine that nobody listens on at present.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
