//! One node: a process of `mortise serve`, and its folder.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use mortise_etcd_kit::{free_port, freeze};
use rustix::process::{Pid, Signal, kill_process};

/// A node. It is killed when this goes out of scope.
pub struct Node {
    folder: PathBuf,
    program: Program,
    data_port: u16,
    admin_port: u16,
    child: Option<Child>,
    ready: String,
}

/// What serves a node.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// `mortise serve`.
    Mortise(PathBuf),
    /// A node with this rule out of force.
    Broken(PathBuf, &'static str),
}

impl Node {
    pub(crate) fn new(
        number: usize,
        peer_port: u16,
        folder: &Path,
        program: &Program,
        etcd: &[String],
        settings: &str,
    ) -> Result<Self> {
        let folder = folder.join(format!("node-{number}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let (data_port, admin_port) = (free_port()?, free_port()?);
        let etcd: Vec<String> = etcd.iter().map(|url| format!("{url:?}")).collect();
        let text = format!(
            "[node]\nid = {number}\nname = \"node-{number}\"\ndata_folder = {:?}\n\
             [data]\naddress = \"127.0.0.1:{data_port}\"\n\
             [admin]\naddress = \"127.0.0.1:{admin_port}\"\n\
             [peer]\naddress = \"127.0.0.1:{peer_port}\"\n\
             [cluster]\nname = \"local\"\netcd = [{}]\n{settings}",
            folder.join("data"),
            etcd.join(", "),
        );
        let config = folder.join("node.toml");
        File::create(&config)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("write {}", config.display()))?;
        Ok(Self {
            folder,
            program: program.clone(),
            data_port,
            admin_port,
            child: None,
            ready: String::new(),
        })
    }

    /// Starts the process, and waits until it serves.
    ///
    /// # Errors
    /// It ends before; its log says why.
    pub fn start(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log()).context("open the log")?;
        let mut command = match &self.program {
            Program::Mortise(binary) => {
                let mut command = Command::new(binary);
                command.arg("serve");
                command
            }
            Program::Broken(binary, rule) => {
                let mut command = Command::new(binary);
                command.args(["--rule", rule]);
                command
            }
        };
        command.arg("--config").arg(self.config());
        let child = command.stdout(Stdio::piped()).stderr(log).spawn().context("start mortise serve")?;
        let child = self.child.insert(child);
        let output = child.stdout.take().context("read what the node prints")?;
        for line in BufReader::new(output).lines() {
            let line = line.context("read what the node prints")?;
            if line.starts_with("ready") {
                self.ready = line;
                return Ok(());
            }
        }
        let told = std::fs::read_to_string(self.log()).unwrap_or_default();
        let last = told.lines().last().unwrap_or("nothing");
        bail!("the node ended before it was ready; the last line of {}: {last}", self.log().display())
    }

    /// Its configuration, which every start reads.
    pub fn config(&self) -> PathBuf {
        self.folder.join("node.toml")
    }

    /// The line that it printed when it was ready last.
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// Its log, to which every start appends.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Where it serves data.
    pub fn data_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.data_port)
    }

    /// Where it serves administration.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// Whether its process was started and not killed.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Its process id, where it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// kill −9.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the node does not run")?;
        child.kill().context("kill the node")?;
        child.wait().context("wait for the node")?;
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// It does not run, or ends with a failure.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the node does not run")?;
        kill_process(Pid::from_child(&child), Signal::TERM).context("stop the node")?;
        let status = child.wait().context("wait for the node")?;
        if !status.success() {
            bail!("the node ended with {status}: see {}", self.log().display());
        }
        Ok(())
    }

    /// SIGSTOP, see [`freeze`], or SIGCONT.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let child = self.child.as_ref().context("the node does not run")?;
        freeze(Pid::from_child(child), frozen).context("freeze the node")
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Takes its disk away. It must not run.
    ///
    /// # Errors
    /// It runs, or the folder cannot be removed.
    pub fn wipe(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("the node runs");
        }
        std::fs::remove_dir_all(self.data()).context("wipe the node")
    }

    /// Keeps a copy of its disk as it is now, in the place of an older copy.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn keep_copy(&self) -> Result<()> {
        let copy = self.copy();
        if copy.exists() {
            std::fs::remove_dir_all(&copy).context("remove the older copy")?;
        }
        copy_folder(&self.data(), &copy)
    }

    /// Puts the copy in the place of its disk. It must not run.
    ///
    /// # Errors
    /// It runs, there is no copy, or a file cannot be moved.
    pub fn put_back_copy(&mut self) -> Result<()> {
        self.wipe()?;
        std::fs::rename(self.copy(), self.data()).context("put the old disk back")
    }

    fn copy(&self) -> PathBuf {
        self.folder.join("data.old")
    }

    /// The number on a line of its metrics page, without the prefix `mortise_`; 0 where there is no such line. All of them
    /// begin at 0 when the node starts.
    ///
    /// # Errors
    /// The page does not come.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port)).context("ask for metrics")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page).context("read the metrics")?;
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("mortise_{name} ")));
        line.map_or(Ok(0.0), |number| number.trim().parse().context("read a number"))
    }
}

/// Copies a folder with all that is in it. What of it is written meanwhile may be torn.
///
/// # Errors
/// There is something at `to` already, or a file cannot be copied.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to).with_context(|| format!("create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry.with_context(|| format!("list {}", from.display()))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            std::fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    // What others may do with it counts, too.
    let permissions =
        std::fs::metadata(from).with_context(|| format!("look at {}", from.display()))?.permissions();
    std::fs::set_permissions(to, permissions).with_context(|| format!("finish {}", to.display()))
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Gone already where it ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
