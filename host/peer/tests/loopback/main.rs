//! Nodes that speak to each other over real sockets, with a gate between them that a test can close.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Where a test cannot even look, it fails.

mod ends;
mod gate;
mod hostile;
mod links;
mod node;
mod snapshots;
mod streams;
mod tls;
