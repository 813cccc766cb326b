//! Clusters of real processes, with a real etcd.
#![allow(clippy::unwrap_used)]

mod failover;
mod flights;
mod kit;
mod rejoin;
