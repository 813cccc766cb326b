//! The replica through its handle, with real plugins, a real state database, and disks that can fail.

mod durability;
mod exactly_once;
mod guests;
mod kit;
mod snapshots;
mod tenants;
