//! A cluster of real processes on this machine: an etcd, nodes started by `mortise serve` on free ports, and a group over
//! all of them. Nodes are killed with −9, stopped and started again, robbed of their disks; nothing is left running.

mod links;
mod node;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mortise_etcd_kit::{Release, Setup as EtcdSetup, TestEtcd, free_port};
use serde_json::Value;

pub use links::{Cut, Links};
use node::Program;
pub use node::{Node, copy_folder};

/// How long a cluster may take for what it has to do by itself: a machine with two cores runs other tests meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it did.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes.
    pub nodes: usize,
    /// How many of them, the first ones, are members of the group.
    pub members: usize,
    /// Where data, configurations and logs go. What is there already is used again.
    pub folder: PathBuf,
    /// More of each node's configuration, in TOML. It begins in the section `[cluster]`.
    pub settings: String,
    /// Whether the links between nodes, and from nodes to etcd, can be cut.
    pub links: bool,
    /// The binary `mortise`. Default: the one that tests are built with.
    pub binary: Option<PathBuf>,
    /// The rule that is out of force in every node, by its name for `broken-node`.
    pub broken: Option<&'static str>,
}

impl Setup {
    /// Three nodes, all of them members.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let (folder, settings) = (folder.into(), String::new());
        Self { nodes: 3, members: 3, folder, settings, links: false, binary: None, broken: None }
    }
}

/// The group that every cluster begins with.
const FIRST_GROUP: u64 = 1;

/// A running cluster with one group, number 1, over all nodes; others can be added. What does not name a group is about
/// that one.
pub struct LocalCluster {
    etcd: TestEtcd,
    nodes: Vec<Node>,
    links: Option<Links>,
    binary: PathBuf,
}

impl LocalCluster {
    /// Starts etcd and the nodes, creates the group, and waits until all are in sync.
    ///
    /// # Errors
    /// Something does not start or serve in time; the error names the log to look into.
    pub fn start(setup: &Setup) -> Result<Self> {
        let binary = match &setup.binary {
            Some(binary) => binary.clone(),
            None => mortise_artifacts::tools::binary("mortise")?,
        };
        let program = match setup.broken {
            Some(rule) => Program::Broken(mortise_artifacts::tools::binary("broken-node")?, rule),
            None => Program::Mortise(binary.clone()),
        };
        let etcd = TestEtcd::start(EtcdSetup::new(Release::V3_5, 1))?;
        let ports = (0..setup.nodes).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let links = setup.links.then(|| Links::open(&ports, port_of(&etcd)?)).transpose()?;
        let mut nodes = Vec::new();
        for (number, port) in (1..).zip(&ports) {
            let (mut settings, mut etcd) = (String::new(), etcd.endpoints());
            if let Some(links) = &links {
                let detours = links.from(number).map(|(to, port)| format!("{to} = \"127.0.0.1:{port}\""));
                settings = format!("peer_addresses = {{ {} }}\n", detours.collect::<Vec<_>>().join(", "));
                etcd = links
                    .to_etcd(number)
                    .map(|port| format!("http://127.0.0.1:{port}"))
                    .into_iter()
                    .collect();
            }
            settings += &setup.settings;
            nodes.push(Node::new(number, *port, &setup.folder, &program, &etcd, &settings)?);
        }
        let mut cluster = Self { etcd, nodes, links, binary };
        cluster.nodes.iter_mut().try_for_each(Node::start)?;
        let numbers: Vec<String> = (1..=setup.members).map(|number| number.to_string()).collect();
        cluster.ok(&["group", "create", "1", "--nodes", &numbers.join(",")])?;
        cluster.wait_in_sync()?;
        Ok(cluster)
    }

    /// etcd.
    pub fn etcd(&mut self) -> &mut TestEtcd {
        &mut self.etcd
    }

    /// The links between nodes, where they can be cut.
    ///
    /// # Errors
    /// They cannot.
    pub fn links(&self) -> Result<&Links> {
        self.links.as_ref().context("the links of this cluster cannot be cut")
    }

    /// The node with this number, from 1 on.
    ///
    /// # Panics
    /// There is none.
    pub fn node(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// URLs of the nodes' data listeners, comma-separated, as clients take them.
    pub fn endpoints(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(Node::data_url).collect();
        urls.join(",")
    }

    /// The same of their admin listeners.
    pub fn admin_endpoints(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(Node::admin_url).collect();
        urls.join(",")
    }

    /// A command of `mortise` against this cluster, to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--endpoint", &self.endpoints(), "--admin-endpoint", &self.admin_endpoints()]);
        command.args(arguments);
        command
    }

    /// The output of a command against one node, which must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn ok_at(&self, number: usize, arguments: &[&str]) -> Result<String> {
        let node = self.nodes.get(number - 1).context("there is no such node")?;
        let mut command = Command::new(&self.binary);
        command.args(["--endpoint", &node.data_url(), "--admin-endpoint", &node.admin_url()]);
        outcome(command.args(arguments))
    }

    /// The output of a command that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        outcome(&mut self.command(arguments))
    }

    /// Uploads the plugin of this name, whose component lies in the folder `plugins`, and creates a tenant of the same name.
    ///
    /// # Errors
    /// A command fails.
    pub fn create_tenant(&self, plugins: &Path, name: &str) -> Result<()> {
        self.upload_plugin(plugins, name)?;
        self.ok(&["tenant", "create", name, "--plugin", name]).map(drop)
    }

    /// The same, of a tenant that can be watched.
    ///
    /// # Errors
    /// A command fails.
    pub fn create_watched_tenant(&self, plugins: &Path, name: &str) -> Result<()> {
        self.upload_plugin(plugins, name)?;
        self.ok(&["tenant", "create", name, "--plugin", name, "--watch"]).map(drop)
    }

    fn upload_plugin(&self, plugins: &Path, name: &str) -> Result<()> {
        let component = plugins.join(format!("{name}.wasm"));
        self.ok(&["plugin", "upload", &component.display().to_string()]).map(drop)
    }

    /// The JSON that a command prints.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.ok(&[&["--json"], arguments].concat())?;
        serde_json::from_str(&text).with_context(|| format!("mortise {}: {text}", arguments.join(" ")))
    }

    /// The group as `mortise cluster status` has it: its record and its members.
    ///
    /// # Errors
    /// The command fails.
    pub fn status(&self) -> Result<Value> {
        self.status_of(FIRST_GROUP)
    }

    /// The same of another group.
    ///
    /// # Errors
    /// As [`LocalCluster::status`].
    pub fn status_of(&self, group: u64) -> Result<Value> {
        let status = self.json(&["cluster", "status", "--group", &group.to_string()])?;
        status["groups"].get(0).cloned().context("there is no group")
    }

    /// The number of the leading node.
    ///
    /// # Errors
    /// None leads in time.
    pub fn wait_leader(&self) -> Result<usize> {
        self.wait_leader_of(FIRST_GROUP)
    }

    /// The same of another group.
    ///
    /// # Errors
    /// As [`LocalCluster::wait_leader`].
    pub fn wait_leader_of(&self, group: u64) -> Result<usize> {
        self.wait_of(group, "a leader", leader_of)
    }

    /// The number of the leading node, as the node `number` knows it.
    ///
    /// # Errors
    /// It knows none in time.
    pub fn wait_leader_at(&self, number: usize) -> Result<usize> {
        let status = || {
            let text = self.ok_at(number, &["--json", "cluster", "status", "--group", "1"])?;
            let status: Value = serde_json::from_str(&text).context("read the status")?;
            status["groups"].get(0).cloned().context("there is no group")
        };
        self.wait_for("a leader", status, leader_of)
    }

    /// How often a leader was elected so far.
    ///
    /// # Errors
    /// Nobody says.
    pub fn epoch(&self) -> Result<u64> {
        self.status()?["record"]["epoch"].as_u64().context("the group has no epoch")
    }

    /// Waits until every running member is in sync, and has applied as much as every other.
    ///
    /// # Errors
    /// They are not in time.
    pub fn wait_in_sync(&self) -> Result<Value> {
        self.wait_in_sync_of(FIRST_GROUP)
    }

    /// The same of another group.
    ///
    /// # Errors
    /// As [`LocalCluster::wait_in_sync`].
    pub fn wait_in_sync_of(&self, group: u64) -> Result<Value> {
        self.wait_of(group, "all members in sync", |status| {
            let running = self.running_members(status)?;
            let isr = status["record"]["isr"].as_array()?;
            let members: Vec<&Value> =
                status["members"].as_array()?.iter().filter(|member| member["error"].is_null()).collect();
            let one = members.first()?;
            let same = |member: &&Value| {
                member["applied_index"] == one["commit_index"]
                    && member["effect_digest"] == one["effect_digest"]
            };
            let leads = members.iter().any(|member| member["role"] == "leader" && member["serving"] == true);
            let all = isr.len() == running && members.len() == running && members.iter().all(same);
            (all && leads).then(|| status.clone())
        })
    }

    /// Waits until every running member is in the in-sync set, whatever is written meanwhile.
    ///
    /// # Errors
    /// They are not in time.
    pub fn wait_in_sync_while_written(&self) -> Result<()> {
        self.wait("all members in the in-sync set", |status| {
            (status["record"]["isr"].as_array()?.len() == self.running_members(status)?).then_some(())
        })
    }

    /// How many of the group's members run.
    fn running_members(&self, status: &Value) -> Option<usize> {
        let members = status["record"]["members"].as_array()?.iter();
        let number = |member: &Value| usize::try_from(member["node"].as_u64()?).ok();
        let node = |number: usize| self.nodes.get(number.checked_sub(1)?);
        Some(members.filter_map(number).filter_map(node).filter(|node| node.is_running()).count())
    }

    /// Waits until the group's status gives an answer.
    ///
    /// # Errors
    /// It gives none in time.
    pub fn wait<T>(&self, what: &str, look: impl Fn(&Value) -> Option<T>) -> Result<T> {
        self.wait_of(FIRST_GROUP, what, look)
    }

    fn wait_of<T>(&self, group: u64, what: &str, look: impl Fn(&Value) -> Option<T>) -> Result<T> {
        self.wait_for(what, || self.status_of(group), look)
    }

    fn wait_for<T>(
        &self,
        what: &str,
        status: impl Fn() -> Result<Value>,
        look: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            let last = match status() {
                Ok(status) => match look(&status) {
                    Some(found) => return Ok(found),
                    None => status.to_string(),
                },
                Err(error) => format!("{error:#}"),
            };
            if begun.elapsed() > PATIENCE {
                let logs: Vec<String> =
                    self.nodes.iter().map(|node| node.log().display().to_string()).collect();
                bail!("{what}: not within {PATIENCE:?}; the last answer: {last}; see {}", logs.join(", "));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The node that leads and serves.
fn leader_of(status: &Value) -> Option<usize> {
    let leads = |member: &&Value| member["role"] == "leader" && member["serving"] == true;
    usize::try_from(status["members"].as_array()?.iter().find(leads)?["node"].as_u64()?).ok()
}

/// Where clients reach an etcd of one member.
fn port_of(etcd: &TestEtcd) -> Result<u16> {
    let endpoints = etcd.endpoints();
    let port = endpoints.first().and_then(|url| url.rsplit(':').next()?.parse().ok());
    port.context("etcd has no port")
}

fn outcome(command: &mut Command) -> Result<String> {
    let output = command.output().context("start mortise")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// The folder of the shipped plugins' components, compiled.
///
/// # Errors
/// One does not compile.
pub fn plugins() -> Result<PathBuf> {
    for package in mortise_artifacts::SHIPPED {
        mortise_artifacts::component(package)?;
    }
    Ok(mortise_artifacts::workspace_root().join("target/plugins"))
}
