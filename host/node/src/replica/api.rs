//! What goes in and out of a [`Replica`](super::Replica): plain types, free of gRPC.

use bytes::Bytes;
use mortise_core::digest::{Digest, StateDigest};
use mortise_core::group::NodeId;
use mortise_core::ids::{GroupId, LogIndex, PluginDigest, Sequence, SessionId, TenantId};
use mortise_core::outcome::{Failure, Rejection};
use mortise_core::replica::{Ack, Position};
use mortise_runtime::{LoadError, Manifest};

/// What a plugin's caller is told where no instance is left for it: a matter of load, and over in a moment.
pub(crate) const INSTANCES_IN_USE: &str = "all plugin instances are in use";

/// A node that may lead a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The node.
    pub node: NodeId,
    /// Where it serves data, as host:port; empty where that is not known.
    pub data: String,
    /// Where it serves administration, likewise.
    pub admin: String,
}

fn may_lead(leader: &Option<Leader>) -> String {
    match leader {
        None => ", and it knows of none that does: try again soon".to_owned(),
        Some(Leader { node, data, .. }) if data.is_empty() => format!(": node {node} may"),
        Some(Leader { node, data, .. }) => format!(": node {node} at {data} may"),
    }
}

/// A write on its way.
#[derive(Clone, Debug)]
pub struct Write {
    /// Whose state it changes.
    pub tenant: TenantId,
    /// The client's session, or [`SessionId::NONE`].
    pub session: SessionId,
    /// The client's number for it.
    pub sequence: Sequence,
    /// The client has the answers up to this sequence.
    pub answered_up_to: Sequence,
    /// Who asks, as authenticated.
    pub principal: Option<String>,
    /// The plugin's own bytes.
    pub payload: Bytes,
    /// When it is acknowledged.
    pub ack: Ack,
    /// A leader acknowledged it with this token: it is not executed, but answered with what became of it.
    pub token: Option<Position>,
}

/// What the caller of a [`Write`] is told.
#[derive(Debug)]
pub struct Answer {
    /// The write's tenant.
    pub tenant: TenantId,
    /// The write's session.
    pub session: SessionId,
    /// The write's number.
    pub sequence: Sequence,
    /// What.
    pub told: Told,
}

/// What can be told of a [`Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is durable on the leader, with this token. What becomes of it follows.
    Token(Position),
    /// What became of it. Nothing follows.
    Outcome(Result<Written, WriteError>),
}

/// A write that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The plugin's own bytes.
    pub reply: Bytes,
    /// The log entry that carried it; `None` where its outcome had been recorded before.
    pub position: Option<Position>,
}

/// What became of a write that only the leader had acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteFate {
    /// It may still be committed or lost.
    Pending,
    /// It stays. With its outcome, where that was asked for and is still recorded.
    Committed(Option<Result<Bytes, WriteError>>),
    /// It was not executed, and never will be.
    Lost,
}

/// Where answers go. Called from the replica's threads: it must not block.
pub trait AnswerSink: Send + Sync {
    /// Takes what is told of some of the caller's writes: of each its outcome, once. With `ack = leader` its token may
    /// come before, once.
    fn answers(&self, answers: Vec<Answer>);
}

/// Why a write was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The plugin refused it. Recorded: the same write, sent again, gets the same answer.
    #[error("{0}")]
    Rejected(Rejection),
    /// The plugin failed on it. Recorded, too.
    #[error("{0}")]
    Failed(Failure),
    /// There is no such tenant (any more).
    #[error("no such tenant")]
    NoSuchTenant,
    /// A token was shown that is of another group's log.
    #[error(
        "the token is of group {shown}, and the tenant is in group {group}: the tenant that it was given for is dropped, \
         and another one has its name"
    )]
    OtherGroup {
        /// The token's group.
        shown: GroupId,
        /// The tenant's group.
        group: GroupId,
    },
    /// The session is unknown or expired: nothing was executed.
    #[error("the session is unknown or has expired: open a new one")]
    SessionExpired,
    /// The client had said that it had this write's answer.
    #[error("this sequence was reported as answered before: it is not executed again")]
    AlreadyAnswered,
    /// A bounded queue is full.
    #[error("overloaded: {0}; try again later")]
    Overloaded(&'static str),
    /// Larger than a bound.
    #[error("{what} has {bytes} bytes, more than the {max} allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Free disk is below the low-water mark.
    #[error(
        "only {free} bytes of disk are free, less than the low-water mark {mark}: free some space; reads go on"
    )]
    DiskFull {
        /// Bytes free.
        free: u64,
        /// The mark.
        mark: u64,
    },
    /// A newer stream took over the session.
    #[error("a newer stream took over this session")]
    Superseded,
    /// Only the leader had it.
    #[error(
        "the write was lost with the leader that acknowledged it: it was not executed, and never will be"
    )]
    Lost,
    /// This node does not lead the group. Nothing was logged.
    #[error("this node does not lead group {group}{}", may_lead(.leader))]
    NotLeader {
        /// Which.
        group: GroupId,
        /// Who may.
        leader: Option<Leader>,
    },
    /// This node led the group when it took the write, and does not any more; whether the write took effect is unknown.
    #[error(
        "this node has lost the leadership while the write was under way: ask again, in the same session"
    )]
    LeadershipLost,
    /// The node is stopping.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// The replica stopped at a fault; whether the write took effect is unknown.
    #[error("the replica stopped: {0}")]
    Stopped(String),
    /// Malformed.
    #[error("{0}")]
    Invalid(String),
}

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The plugin refused it.
    #[error("{0}")]
    Rejected(Rejection),
    /// The plugin failed on it.
    #[error("{0}")]
    Failed(Failure),
    /// There is no such tenant.
    #[error("no such tenant")]
    NoSuchTenant,
    /// Only the leader can answer, and this node is none.
    #[error("this node does not lead group {group}{}", may_lead(.leader))]
    NotLeader {
        /// Which.
        group: GroupId,
        /// Who may lead.
        leader: Option<Leader>,
    },
    /// The other members did not confirm in time that the state is fresh.
    #[error("the other members of the group did not answer in time: whether the state is fresh is not known")]
    Unconfirmed,
    /// What was to be read behind is no part of the history any more.
    #[error("the write that this read was to see was lost with its leader")]
    Lost,
    /// This replica's state cannot be read at present.
    #[error("this replica is being rebuilt: ask another node")]
    OutOfService,
    /// Too many queries wait.
    #[error("overloaded: {0}; try again later")]
    Overloaded(&'static str),
    /// The node is stopping.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// A fault of this node.
    #[error("{0}")]
    Internal(String),
}

/// Why an administrative request failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no such thing.
    #[error("no such {what}: {name:?}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// The name is taken.
    #[error("{what} {name:?} exists already")]
    AlreadyExists {
        /// What exists.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Another group of the cluster has a tenant of this name.
    #[error("tenant {name:?} exists already, in group {group}")]
    Taken {
        /// The name.
        name: String,
        /// The group.
        group: GroupId,
    },
    /// The directory of tenants does not answer. Nothing was created.
    #[error("the directory of tenants in etcd cannot be used at present: {0}; try again")]
    Directory(String),
    /// Malformed.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be done to this.
    #[error("{0}")]
    FailedPrecondition(String),
    /// The component cannot be a plugin.
    #[error(transparent)]
    Plugin(#[from] LoadError),
    /// As with writes: overloaded, disk full, shutting down, stopped.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A fault of this node.
    #[error("{0}")]
    Internal(String),
}

impl AdminError {
    /// A fault of this node, with its chain of causes.
    pub(crate) fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(format!("{:#}", anyhow::Error::from(error)))
    }
}

/// A tenant, for people.
#[derive(Clone, Debug)]
pub struct TenantInfo {
    /// Its id.
    pub id: TenantId,
    /// The group that has it.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// Its plugin's digest.
    pub plugin: PluginDigest,
    /// What its plugin says of itself.
    pub manifest: Manifest,
    /// Whether effects are kept for watchers.
    pub watch: bool,
    /// Commands and expirations applied so far.
    pub commands: u64,
    /// Commands that trapped or passed a limit.
    pub failures: u64,
    /// When `expire` is next due, in milliseconds of log time.
    pub next_due_ms: Option<u64>,
    /// Its chain of effect digests.
    pub effect_digest: Digest,
    /// Its state's digest, where asked for.
    pub state: Option<StateDigest>,
    /// How its section of the newest snapshot was written; empty before the first.
    pub snapshot_section: String,
}

/// A plugin, for people.
#[derive(Clone, Debug)]
pub struct PluginInfo {
    /// The group that knows it.
    pub group: GroupId,
    /// Its digest.
    pub digest: PluginDigest,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Bytes of its component.
    pub component_bytes: u64,
    /// Names of the group's tenants that use it.
    pub tenants: Vec<String>,
}

/// A snapshot that was taken.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotTaken {
    /// The last log index it holds.
    pub index: LogIndex,
    /// Bytes of the file.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub digest: Digest,
    /// The first index left in the log.
    pub log_first_index: LogIndex,
}

/// How the replica is.
#[derive(Clone, Debug, Default)]
pub struct ReplicaStatus {
    /// It leads, and serves.
    pub leads: bool,
    /// The leadership's number.
    pub epoch: u64,
    /// Members of the in-sync set, by the newest record that it has seen.
    pub isr_members: u64,
    /// Writes accepted and not yet answered.
    pub writes_in_flight: u64,
    /// Bytes of their commands.
    pub write_bytes_in_flight: u64,
    /// Last index appended.
    pub last_index: u64,
    /// Last index committed.
    pub commit_index: u64,
    /// Last index applied.
    pub applied_index: u64,
    /// First index in the log.
    pub log_first_index: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of the state on disk.
    pub state_disk_bytes: u64,
    /// Bytes free on the data folder's disk.
    pub free_disk_bytes: u64,
    /// The newest snapshot's index.
    pub snapshot_index: u64,
    /// Living tenants.
    pub tenants: u64,
    /// Known plugins.
    pub plugins: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Log time, in milliseconds.
    pub log_time_ms: u64,
    /// Why writes are refused; `None`: they are not.
    pub writes_refused: Option<String>,
    /// Why the replica stopped; `None`: it runs.
    pub fault: Option<String>,
}
