//! What a cluster tells of itself.

use serde::Serialize;

/// A group's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupInfo {
    /// Its number.
    pub group: u64,
    /// Counts its leaderships.
    pub epoch: u64,
    /// Counts the times that an operator began a new history.
    pub generation: u64,
    /// The node that leads, or led last.
    pub leader: Option<u64>,
    /// How many in-sync members a commit needs.
    pub min_isr: u32,
    /// All members.
    pub members: Vec<GroupMember>,
    /// The in-sync set.
    pub isr: Vec<u64>,
    /// Who may be elected besides.
    pub elr: Vec<u64>,
}

/// A member of a group, in its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupMember {
    /// Its node.
    pub node: u64,
    /// It has never been in sync yet.
    pub learner: bool,
    /// The life of its copy, in hexadecimal.
    pub incarnation: String,
}

/// All groups with their members as they tell, and all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// The node that answered.
    pub node: u64,
    /// The groups.
    pub groups: Vec<GroupStatus>,
    /// The nodes.
    pub nodes: Vec<ClusterNode>,
    /// Why etcd cannot be observed at the moment; empty: it can.
    pub etcd_problem: String,
}

/// A group with its members as they tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// Its record.
    pub record: GroupInfo,
    /// What each member says.
    pub members: Vec<MemberReport>,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberReport {
    /// Its node.
    pub node: u64,
    /// Why it did not answer; empty: it did.
    pub error: String,
    /// leader, follower or stopped.
    pub role: String,
    /// It leads, and takes writes.
    pub serving: bool,
    /// The leadership it follows.
    pub epoch: u64,
    /// The history it belongs to.
    pub generation: u64,
    /// Its log's last entry.
    pub last_index: u64,
    /// Its log is durable up to here.
    pub durable_index: u64,
    /// Known to be committed.
    pub commit_index: u64,
    /// Applied.
    pub applied_index: u64,
    /// The chain of effect digests, in hexadecimal.
    pub effect_digest: String,
    /// The entry behind which it was taken.
    pub digest_index: u64,
    /// It changes nothing in etcd until an operator accepts it.
    pub frozen: bool,
    /// Its state differs from the group's since this entry.
    pub quarantined_index: Option<u64>,
    /// Its links to other nodes.
    pub links: Vec<LinkReport>,
}

/// A link between two nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkReport {
    /// To whom.
    pub peer: u64,
    /// connected, broken, dialling or idle.
    pub state: String,
    /// Of the newest ping, in microseconds.
    pub round_trip_us: Option<u64>,
    /// How often it was dialled again.
    pub redials: u64,
    /// Why it last broke; empty: never.
    pub last_error: String,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterNode {
    /// Its number.
    pub node: u64,
    /// Whether its session with etcd is alive.
    pub live: bool,
    /// Where its peers reach it.
    pub peer_address: String,
    /// Where it serves data.
    pub data_address: String,
    /// Where it serves administration.
    pub admin_address: String,
}
