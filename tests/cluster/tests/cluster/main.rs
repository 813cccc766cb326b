//! Clusters of real processes, with a real etcd.
#![allow(clippy::unwrap_used)]

mod ack_leader;
mod broken;
mod discovery;
mod failover;
mod faults;
mod flights;
mod freshness;
mod groups;
mod history;
mod kit;
mod load;
mod operations;
mod python;
mod rejoin;
mod tls;
mod totals;
mod watch;
