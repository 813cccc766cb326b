//! Faults of a real etcd: what a correct node must see, and how soon all is well again.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod history;
mod kit;
mod members;
mod memory;
mod outside;
