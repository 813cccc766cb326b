//! What the cluster service tells. All of it can be written as JSON, with these names.

use serde::Serialize;

/// A group, as etcd's record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupInfo {
    /// Its number.
    pub group: u64,
    /// The fencing number of its leadership.
    pub epoch: u64,
    /// It rises where a history is built on what was left of another.
    pub generation: u64,
    /// The node that leads it; `None`: no node does.
    pub leader: Option<u64>,
    /// How many in-sync members a commit needs.
    pub min_isr: u32,
    /// Its members.
    pub members: Vec<GroupMember>,
    /// The nodes in sync.
    pub isr: Vec<u64>,
    /// The nodes that may be elected besides.
    pub elr: Vec<u64>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupMember {
    /// Its node.
    pub node: u64,
    /// It never counts for a commit.
    pub learner: bool,
    /// Which of the node's stores it is, in hexadecimal.
    pub incarnation: String,
}

/// A cluster, seen from one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// The node that answered.
    pub node: u64,
    /// The groups that were asked for.
    pub groups: Vec<GroupStatus>,
    /// All nodes.
    pub nodes: Vec<ClusterNode>,
    /// Why etcd cannot be observed at the moment; `None`: it can.
    pub etcd_problem: Option<String>,
}

/// A group with what its members say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// Its record.
    pub record: GroupInfo,
    /// One for each member.
    pub members: Vec<MemberReport>,
}

/// A member, and what became of asking it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberReport {
    /// Its node.
    pub node: u64,
    /// What it said.
    #[serde(flatten)]
    pub answer: MemberAnswer,
}

/// What became of asking a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum MemberAnswer {
    /// It answered.
    Status(MemberStatus),
    /// It did not.
    Failed {
        /// Why.
        error: String,
    },
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// `leader`, `follower` or `stopped`.
    pub role: String,
    /// It leads, and takes writes.
    pub serving: bool,
    /// The highest epoch it knows.
    pub epoch: u64,
    /// The generation of its history.
    pub generation: u64,
    /// Last index in its log.
    pub last_index: u64,
    /// Last index that it has fsynced.
    pub durable_index: u64,
    /// Last index that it knows to be committed.
    pub commit_index: u64,
    /// Last index that it has applied.
    pub applied_index: u64,
    /// The chain of effect digests behind `digest_index`, in hexadecimal: equal ones mean equal histories.
    pub effect_digest: String,
    /// Where the chain was taken.
    pub digest_index: u64,
    /// It changes nothing in etcd until an operator accepts etcd as it is.
    pub frozen: bool,
    /// Its state differs from the group's since this entry; `None`: it does not.
    pub quarantined_index: Option<u64>,
    /// Its links to other members.
    pub links: Vec<LinkReport>,
}

/// A link between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkReport {
    /// The node at its other end.
    pub peer: u64,
    /// `connected`, `broken`, `dialling` or `idle`.
    pub state: String,
    /// How long the newest ping took, in microseconds; `None`: there was none.
    pub round_trip_us: Option<u64>,
    /// How often it was dialled again.
    pub redials: u64,
    /// What broke it last; empty: nothing did.
    pub last_error: String,
}

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterNode {
    /// Its number.
    pub node: u64,
    /// Whether its session with etcd is alive.
    pub live: bool,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Where it serves data.
    pub data_address: String,
    /// Where it serves administration.
    pub admin_address: String,
}
