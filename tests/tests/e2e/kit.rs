//! Starting nodes, and running commands against them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// Lines that a node may print before it is ready: more means that it will not be.
const LINES_MAX: usize = 100;

/// The binary, built once.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| mortise_artifacts::tools::binary("mortise").unwrap())
}

/// The folder with the shipped plugins' components.
pub(crate) fn plugins() -> &'static Path {
    static PLUGINS: OnceLock<PathBuf> = OnceLock::new();
    PLUGINS.get_or_init(|| {
        for package in mortise_artifacts::SHIPPED {
            mortise_artifacts::component(package).unwrap();
        }
        mortise_artifacts::workspace_root().join("target/plugins")
    })
}

/// A running node. It is killed when this goes out of scope.
pub(crate) struct Node {
    child: Child,
    endpoint: String,
    admin: String,
}

impl Node {
    /// Starts `mortise dev` on the data folder, and waits until it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::launch(&mut dev(data))
    }

    /// Runs what starts a node, and waits until it is ready.
    pub(crate) fn launch(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        // From here on a panic ends the process too.
        let mut node = Self { child, endpoint: String::new(), admin: String::new() };
        let mut lines = BufReader::new(node.child.stdout.take().unwrap()).lines();
        let mut printed = String::new();
        let mut addresses = Vec::new();
        for line in lines.by_ref().take(LINES_MAX) {
            let line = line.unwrap();
            addresses.extend(line.split_whitespace().filter_map(address));
            printed += &format!("{line}\n");
            if printed.contains("ready") && addresses.len() >= 2 {
                // The rest is for people; reading it keeps the pipe from filling up.
                std::thread::spawn(move || lines.for_each(drop));
                node.admin = addresses.swap_remove(1);
                node.endpoint = addresses.swap_remove(0);
                return node;
            }
        }
        panic!("the node did not become ready:\n{printed}");
    }

    /// Runs a command against this node.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A command against this node, to be run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(["--endpoint", &self.endpoint, "--admin-endpoint", &self.admin]).args(arguments);
        command
    }

    /// The output of a command that must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The JSON that a command prints, which must succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[&["--json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// The exit code and the error message of a command that must fail.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Where it serves data.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The same, without the scheme: to start another there.
    pub(crate) fn address(&self) -> String {
        self.endpoint.replace("http://", "")
    }

    /// Where it serves administration, as above.
    pub(crate) fn admin_address(&self) -> String {
        self.admin.replace("http://", "")
    }

    /// kill −9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ctrl-C, and the exit code.
    pub(crate) fn interrupt(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.child.wait().unwrap().code()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Gone already where the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `mortise dev` on free ports.
pub(crate) fn dev(data: &Path) -> Command {
    dev_at(data, "127.0.0.1:0", "127.0.0.1:0")
}

/// The same, on these.
pub(crate) fn dev_at(data: &Path, address: &str, admin_address: &str) -> Command {
    let mut command = Command::new(binary());
    command.args(["dev", "--address", address, "--admin-address", admin_address, "--plugins"]);
    command.arg(plugins()).arg("--data").arg(data);
    command
}

/// The URL of an address in what a node prints.
fn address(word: &str) -> Option<String> {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let (scheme, plain) = word.split_once("://")?;
    let known = ["http", "https"].contains(&scheme) && plain.parse::<std::net::SocketAddr>().is_ok();
    known.then(|| word.to_owned())
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}
