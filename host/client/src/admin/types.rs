//! What the admin service tells. All of it can be written as JSON, with these names.

use serde::Serialize;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantInfo {
    /// Its name.
    pub name: String,
    /// Its number, which its group never uses again.
    pub id: u64,
    /// The group that has it.
    pub group: u64,
    /// Its plugin's name.
    pub plugin: String,
    /// Its plugin's version.
    pub plugin_version: String,
    /// BLAKE3 of its plugin's component, in hexadecimal.
    pub plugin_digest: String,
    /// The version of its state's layout.
    pub schema: u32,
    /// Media type of its commands and replies.
    pub encoding: String,
    /// Whether effects are kept for watchers.
    pub watch: bool,
    /// Commands applied so far.
    pub commands: u64,
    /// Commands that trapped or passed a limit.
    pub failures: u64,
    /// When something in it expires next, in log time (milliseconds since 1970-01-01 UTC).
    pub next_due_ms: Option<u64>,
    /// Its chain of effect digests, in hexadecimal.
    pub effect_digest: String,
    /// Its state, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StateInfo>,
    /// How its section of the newest snapshot was written: "plugin", or "raw: " and why; empty before the first.
    pub snapshot_section: String,
}

/// A tenant's state as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateInfo {
    /// BLAKE3 over its ordered pairs, in hexadecimal.
    pub digest: String,
    /// How many there are.
    pub pairs: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// A plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginInfo {
    /// The group that knows it.
    pub group: u64,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// BLAKE3 of its component, in hexadecimal.
    pub digest: String,
    /// The version of its state's layout.
    pub schema: u32,
    /// What it does, in a line.
    pub summary: String,
    /// Media type of its commands and replies.
    pub encoding: String,
    /// Bytes of its component.
    pub component_bytes: u64,
    /// Commands to try.
    pub examples: Vec<PluginExample>,
    /// Tenants of its group that use it.
    pub tenants: Vec<String>,
}

/// A command to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginExample {
    /// What it shows.
    pub name: String,
    /// The command itself; as text where it is text, else in hexadecimal after `0x`.
    #[serde(serialize_with = "text_or_hex")]
    pub command: Vec<u8>,
}

impl PluginExample {
    /// The command for people: as text where it is text, else in hexadecimal after `0x`.
    pub fn display(&self) -> String {
        match std::str::from_utf8(&self.command) {
            Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => text.to_owned(),
            _ => self.command.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
        }
    }
}

fn text_or_hex<S: serde::Serializer>(command: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let example = PluginExample { name: String::new(), command: command.to_vec() };
    serializer.serialize_str(&example.display())
}

/// What became of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upload {
    /// The plugin.
    #[serde(flatten)]
    pub plugin: PluginInfo,
    /// Whether the group knew it already.
    pub known: bool,
}

/// A snapshot file of the whole group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotInfo {
    /// The last log index it holds.
    pub index: u64,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of the file, in hexadecimal.
    pub digest: String,
    /// The first index left in the log.
    pub log_first_index: u64,
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// The node's version.
    pub version: String,
    /// wasmtime's version and the processor architecture: the group is bound to them.
    pub runtime: String,
    /// Its name.
    pub node: String,
    /// The group that what follows is about, up to the snapshot, and the counts of tenants, plugins and sessions.
    pub group: u64,
    /// All groups that the node has a replica of.
    pub groups: Vec<u64>,
    /// `leader`: it serves reads and writes. `stopped`: a fault ended its writing; see `writes_refused`.
    pub role: String,
    /// The fencing number of its leadership.
    pub epoch: u64,
    /// Last index in the log.
    pub last_index: u64,
    /// Last index that is committed.
    pub commit_index: u64,
    /// Last index that is applied.
    pub applied_index: u64,
    /// First index in the log.
    pub log_first_index: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Bytes of state on disk.
    pub state_disk_bytes: u64,
    /// Bytes free where the data folder is.
    pub free_disk_bytes: u64,
    /// Last index that the newest snapshot holds; 0: there is none.
    pub snapshot_index: u64,
    /// Number of tenants.
    pub tenants: u64,
    /// Number of plugins.
    pub plugins: u64,
    /// Number of sessions.
    pub sessions: u64,
    /// Milliseconds since its start.
    pub uptime_ms: u64,
    /// Why writes are refused at present; empty: they are not.
    pub writes_refused: String,
    /// Log time, in milliseconds since 1970-01-01 UTC.
    pub log_time_ms: u64,
    /// Where it serves data.
    pub data_address: String,
    /// Where it serves administration.
    pub admin_address: String,
}
