//! One process of etcd.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;

use crate::freeze::freeze;
use crate::ports::Ports;

/// Starts etcd, says its process id, and ends it when the standard input closes: so it ends with whoever started it,
/// also where that was killed. Told to keep the folder, it does not remove it.
const KEEPER: &str = r#"
folder=$1
shift
"$@" >"$folder/log" 2>&1 &
echo $!
read -r word
kill -9 $! 2>/dev/null
wait $! 2>/dev/null
[ "$word" = keep ] || rm -rf "$folder"
"#;

pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) ports: Ports,
    folder: PathBuf,
    running: Option<Running>,
}

struct Running {
    keeper: Child,
    etcd: Pid,
}

impl Member {
    pub(crate) fn new(number: usize) -> Result<Self> {
        let ports = Ports::choose()?;
        let folder = tempfile::Builder::new().prefix("mortise-etcd-").tempdir().context("make a folder")?;
        // From now on the keeper removes it.
        let folder = folder.keep();
        Ok(Self { name: format!("m{number}"), ports, folder, running: None })
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.peer)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where a backup may lie.
    pub(crate) fn backup(&self) -> PathBuf {
        self.folder.join("backup")
    }

    pub(crate) fn runs(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn process(&self) -> Option<u32> {
        Some(self.running.as_ref()?.etcd.as_raw_nonzero().get().unsigned_abs())
    }

    pub(crate) fn launch(&mut self, program: &Path, arguments: &[String]) -> Result<()> {
        ensure!(self.running.is_none(), "{} runs already", self.name);
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(&self.folder).arg(program).args(arguments);
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start sh")?;
        let mut line = String::new();
        let output = keeper.stdout.take().context("read from sh")?;
        BufReader::new(output).read_line(&mut line).context("read etcd's process id")?;
        let etcd = line.trim().parse().ok().and_then(Pid::from_raw).context("parse etcd's process id")?;
        self.running = Some(Running { keeper, etcd });
        Ok(())
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut running = self.running.take().with_context(|| format!("{} does not run", self.name))?;
        let mut input = running.keeper.stdin.take().context("write to sh")?;
        input.write_all(b"keep\n").context("write to sh")?;
        drop(input);
        running.keeper.wait().context("wait for sh")?;
        Ok(())
    }

    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        let running = self.running.as_ref().with_context(|| format!("{} does not run", self.name))?;
        freeze(running.etcd, frozen).with_context(|| format!("freeze {}", self.name))
    }

    pub(crate) fn wipe(&self) -> Result<()> {
        ensure!(self.running.is_none(), "{} runs", self.name);
        let data = self.data();
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
        }
        Ok(())
    }

    /// Whether the etcd process ended by itself.
    pub(crate) fn ended(&self) -> bool {
        let state = |running: &Running| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.etcd.as_raw_nonzero()));
            // Without the keeper's wait it stays a zombie.
            stat.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
        };
        self.running.as_ref().is_none_or(state)
    }

    pub(crate) fn is_healthy(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.ports.metrics))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.contains(r#""health":"true""#))
    }

    /// The end of what it logged.
    pub(crate) fn said(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        match self.running.take() {
            Some(mut running) => {
                drop(running.keeper.stdin.take());
                // It ends by itself, and if not, the process that waits is no better off.
                let _ = running.keeper.wait();
            }
            None => _ = std::fs::remove_dir_all(&self.folder),
        }
    }
}
