//! Clusters of real processes, with a real etcd.
#![allow(clippy::unwrap_used)]

mod ack_leader;
mod failover;
mod flights;
mod groups;
mod history;
mod kit;
mod operations;
mod rejoin;
