//! The replica through its handle, with real plugins, a real state database, and disks that can fail.

// clippy's exemption of tests does not reach the functions they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ack_leader;
mod durability;
mod exactly_once;
mod guests;
mod kit;
mod snapshots;
mod tenants;
mod watch;
