//! What a replica is told when it starts.

use std::path::PathBuf;

use mortise_core::ids::GroupId;

/// What a replica is told when it starts. The node's configuration documents each; these are its defaults.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// The data folder.
    pub data: PathBuf,
    /// The group; one a node so far.
    pub group: GroupId,
    /// Bytes of a log segment. Default 64 MiB.
    pub segment_bytes: u64,
    /// Bytes of commands in one entry, beyond which it is closed. Default 1 MiB.
    pub entry_bytes_max: usize,
    /// Bytes of one command. Default 8 MiB.
    pub command_bytes_max: usize,
    /// Writes accepted but not yet answered, over all clients. Default 65,536.
    pub writes_in_flight_max: usize,
    /// Bytes of writes accepted but not yet answered, over all clients. Default 128 MiB.
    pub write_bytes_in_flight_max: usize,
    /// Queries that run at once. Default: 4.
    pub queries_max: usize,
    /// Queries that wait to run. Default: 1,024.
    pub queries_waiting_max: usize,
    /// Log bytes after which a snapshot is taken by itself. Default 512 MiB; 0: only when asked.
    pub snapshot_log_bytes: u64,
    /// Snapshots kept. Default 2, minimum 1.
    pub snapshots_kept: usize,
    /// Writes are refused while less disk than this is free. Default 512 MiB.
    pub free_disk_bytes_min: u64,
    /// The rule of the protocol that is put out of force. Default: none.
    #[cfg(feature = "mutants")]
    pub mutant: Option<mortise_core::replica::Mutant>,
}

impl ReplicaOptions {
    /// Defaults, with data in `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            group: GroupId(1),
            segment_bytes: 64 << 20,
            entry_bytes_max: 1 << 20,
            command_bytes_max: 8 << 20,
            writes_in_flight_max: 65_536,
            write_bytes_in_flight_max: 128 << 20,
            queries_max: 4,
            queries_waiting_max: 1_024,
            snapshot_log_bytes: 512 << 20,
            snapshots_kept: 2,
            free_disk_bytes_min: 512 << 20,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}
