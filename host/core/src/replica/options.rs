//! The times and bounds that a replica works with.

use crate::group::{BootId, NodeId};
use crate::ids::GroupId;

const MS: u64 = 1000;

/// Who this replica is and the times it keeps. Times are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// The Mortise cluster: messages of another one are refused.
    pub cluster: u64,
    /// The group.
    pub group: GroupId,
    /// This node.
    pub node: NodeId,
    /// This process.
    pub boot: BootId,
    /// A random number of this process: its swaps are named after it.
    pub seed: u64,
    /// A leader sends a beacon this often. Default 100 ms.
    pub beacon: u64,
    /// A member of the in-sync set that was behind for this long leaves it. Default 500 ms. Less than `grace`, or a
    /// follower that is cut off deposes a healthy leader.
    pub shrink_after: u64,
    /// A follower that heard nothing for this long may have itself elected. Default 900 ms.
    pub grace: u64,
    /// How long an answered beacon lets a leader read without asking. Default 450 ms, at most half of `grace`.
    pub lease: u64,
    /// What of a lease is given up because clocks differ in speed. Default 45 ms.
    pub lease_margin: u64,
    /// The record is read again this often, whatever the watch says. Default 5 s.
    pub reread: u64,
    /// Least time between two attempts at the same thing: a stream, a swap, a read of the record. Default 50 ms.
    pub retry: u64,
    /// A hand-over of leadership that takes longer is given up. Default 2 s.
    pub transfer_max: u64,
    /// Most payload bytes on their way to one follower. Default 4 MiB.
    pub window_bytes_max: usize,
    /// Most payload bytes of one append message. Default 1 MiB; a larger entry travels alone.
    pub append_bytes_max: usize,
    /// Most payload bytes of recent entries kept in memory for followers; older ones are read back. Default 32 MiB.
    pub tail_bytes_max: usize,
    /// Most payload bytes that are proposed and not committed. Default 64 MiB.
    pub uncommitted_bytes_max: usize,
    /// Most reads and questions that wait. Default 4096.
    pub waiting_max: usize,
    /// The rule that is put out of force.
    #[cfg(feature = "mutants")]
    pub mutant: Option<super::Mutant>,
}

impl Options {
    /// The defaults.
    pub fn new(cluster: u64, group: GroupId, node: NodeId, boot: BootId, seed: u64) -> Self {
        Self {
            cluster,
            group,
            node,
            boot,
            seed,
            beacon: 100 * MS,
            shrink_after: 500 * MS,
            grace: 900 * MS,
            lease: 450 * MS,
            lease_margin: 45 * MS,
            reread: 5000 * MS,
            retry: 50 * MS,
            transfer_max: 2000 * MS,
            window_bytes_max: 4 << 20,
            append_bytes_max: 1 << 20,
            tail_bytes_max: 32 << 20,
            uncommitted_bytes_max: 64 << 20,
            waiting_max: 4096,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}
