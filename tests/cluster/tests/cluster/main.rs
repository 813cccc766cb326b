//! Clusters of real processes, with a real etcd.
#![allow(clippy::unwrap_used)]

mod failover;
mod kit;
mod rejoin;
