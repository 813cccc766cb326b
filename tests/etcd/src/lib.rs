//! Real etcds for tests: started on free ports of loopback, in temporary folders, and gone with the process that
//! started them, however that ends.

mod freeze;
mod member;
mod ports;
mod release;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use freeze::freeze;
use member::Member;
pub use ports::free_port;
pub use release::Release;

/// How long an etcd may take to serve: a machine with two cores runs other tests meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What an etcd is to be like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its release.
    pub release: Release,
    /// How many members, 1 or 3.
    pub members: usize,
    /// `--initial-cluster-token`: with the members' addresses, this makes etcd's cluster id.
    pub token: String,
    /// Whether clients connect with TLS, which needs `arguments` for it.
    pub tls: bool,
    /// Further arguments for each member.
    pub arguments: Vec<String>,
}

impl Setup {
    /// So many members of that release.
    pub fn new(release: Release, members: usize) -> Self {
        Self { release, members, token: "first".into(), tls: false, arguments: Vec::new() }
    }
}

/// A running etcd.
pub struct TestEtcd {
    setup: Setup,
    members: Vec<Member>,
    programs: PathBuf,
}

impl TestEtcd {
    /// Starts one and waits until it serves.
    ///
    /// # Errors
    /// The release is not installed, or it does not serve in time.
    pub fn start(setup: Setup) -> Result<Self> {
        let programs = setup.release.folder()?;
        let members = (0..setup.members).map(Member::new).collect::<Result<Vec<_>>>()?;
        let mut etcd = Self { setup, members, programs };
        (0..etcd.members.len()).try_for_each(|member| etcd.launch(member))?;
        etcd.wait_ready()?;
        Ok(etcd)
    }

    /// URLs of all members, for clients.
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.setup.tls { "https" } else { "http" };
        self.members.iter().map(|member| format!("{scheme}://127.0.0.1:{}", member.ports.client)).collect()
    }

    /// Process ids of the members that run.
    pub fn processes(&self) -> Vec<u32> {
        self.members.iter().filter_map(Member::process).collect()
    }

    fn launch(&mut self, member: usize) -> Result<()> {
        let cluster: Vec<String> =
            self.members.iter().map(|m| format!("{}={}", m.name, m.peer_url())).collect();
        let endpoint = self.endpoints().swap_remove(member);
        let arguments = |m: &Member| {
            let (peer, metrics) = (m.peer_url(), format!("http://127.0.0.1:{}", m.ports.metrics));
            let mut arguments = vec!["--name".into(), m.name.clone()];
            arguments.extend(["--data-dir".into(), m.data().display().to_string()]);
            for (option, value) in [
                ("--listen-client-urls", endpoint.as_str()),
                ("--advertise-client-urls", &endpoint),
                ("--listen-peer-urls", &peer),
                ("--initial-advertise-peer-urls", &peer),
                ("--listen-metrics-urls", &metrics),
                ("--initial-cluster", &cluster.join(",")),
                ("--initial-cluster-token", &self.setup.token),
                ("--initial-cluster-state", "new"),
                ("--logger", "zap"),
                ("--log-level", "error"),
            ] {
                arguments.extend([option.to_owned(), value.to_owned()]);
            }
            arguments.extend(self.setup.arguments.clone());
            arguments
        };
        let arguments = self.members.get(member).map(arguments).context("no such member")?;
        let program = self.programs.join("etcd");
        self.members.get_mut(member).context("no such member")?.launch(&program, &arguments)
    }

    /// Waits until every member that runs serves.
    ///
    /// # Errors
    /// One does not, in time; with what it said.
    pub fn wait_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        for member in self.members.iter_mut().filter(|member| member.runs()) {
            while !member.is_healthy() {
                ensure!(!member.ended(), "{} ended:\n{}", member.name, member.said());
                let late = begun.elapsed() > READY_WITHIN;
                ensure!(!late, "{} does not serve within {READY_WITHIN:?}:\n{}", member.name, member.said());
                std::thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }

    /// Ends a member with SIGKILL; its data stays.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, member: usize) -> Result<()> {
        self.members.get_mut(member).context("no such member")?.kill()
    }

    /// Ends all members with SIGKILL.
    ///
    /// # Errors
    /// One does not run.
    pub fn kill_all(&mut self) -> Result<()> {
        (0..self.members.len()).try_for_each(|member| self.kill(member))
    }

    /// Starts a killed member again. Does not wait until it serves.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart(&mut self, member: usize) -> Result<()> {
        self.launch(member)
    }

    /// Starts all members again, and waits until they serve.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn restart_all(&mut self) -> Result<()> {
        (0..self.members.len()).try_for_each(|member| self.launch(member))?;
        self.wait_ready()
    }

    /// Stops a member with SIGSTOP, see [`freeze`], or lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self, member: usize, frozen: bool) -> Result<()> {
        self.members.get(member).context("no such member")?.freeze(frozen)
    }

    /// Removes the data of all members, which must be killed. `token` makes the next start another cluster.
    ///
    /// # Errors
    /// The folder cannot be removed.
    pub fn wipe(&mut self, token: Option<&str>) -> Result<()> {
        if let Some(token) = token {
            token.clone_into(&mut self.setup.token);
        }
        self.members.iter().try_for_each(Member::wipe)
    }

    /// Writes a backup, as an operator would.
    ///
    /// # Errors
    /// etcdctl fails.
    pub fn backup(&self) -> Result<PathBuf> {
        let path = self.members.first().context("no member")?.backup();
        // A snapshot is taken from one member.
        let endpoint = self.endpoints().swap_remove(0);
        self.run_ctl(&["--endpoints", &endpoint, "snapshot", "save", &path.display().to_string()])?;
        Ok(path)
    }

    /// Restores a backup into all members, which must be killed and wiped.
    ///
    /// # Errors
    /// etcdctl fails.
    pub fn restore(&self, backup: &Path) -> Result<()> {
        let cluster: Vec<String> =
            self.members.iter().map(|m| format!("{}={}", m.name, m.peer_url())).collect();
        for member in &self.members {
            self.run_ctl(&[
                "snapshot",
                "restore",
                &backup.display().to_string(),
                "--name",
                &member.name,
                "--data-dir",
                &member.data().display().to_string(),
                "--initial-cluster",
                &cluster.join(","),
                "--initial-advertise-peer-urls",
                &member.peer_url(),
                "--initial-cluster-token",
                &self.setup.token,
            ])?;
        }
        Ok(())
    }

    /// Runs etcdctl against all members, as any other client of this etcd.
    ///
    /// # Errors
    /// It fails; with what it said.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let endpoints = self.endpoints().join(",");
        self.run_ctl(&[&["--endpoints", endpoints.as_str()], arguments].concat())
    }

    fn run_ctl(&self, arguments: &[&str]) -> Result<String> {
        let mut etcdctl = Command::new(self.programs.join("etcdctl"));
        let output = etcdctl.env("ETCDCTL_API", "3").args(arguments).output().context("start etcdctl")?;
        if !output.status.success() {
            bail!("etcdctl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Which member leads, and the ids of all.
    ///
    /// # Errors
    /// etcdctl fails, or prints what it never did.
    pub fn leader(&self) -> Result<(usize, Vec<String>)> {
        // Endpoint, id, version, size, is leader, …
        let status = self.ctl(&["endpoint", "status", "--write-out", "simple"])?;
        let rows: Vec<Vec<&str>> = status.lines().map(|line| line.split(", ").collect()).collect();
        let ids = rows.iter().filter_map(|row| row.get(1)).map(|id| (*id).to_owned()).collect();
        let leader = rows.iter().position(|row| row.get(4) == Some(&"true")).context("nobody leads")?;
        Ok((leader, ids))
    }
}
