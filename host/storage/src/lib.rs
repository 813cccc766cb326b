//! Everything a node keeps on disk: the durable log, the state keyspaces and snapshot files, in one locked folder.

pub mod disk;
pub mod folder;
pub mod log;
