//! The durable log, the state keyspaces and snapshot files
