//! The node as clients see it: a real server on loopback, with real plugins, spoken to over gRPC.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod kit;
mod requests;
mod serving;
mod spans;
mod streams;
mod tls;
mod tokens;
mod watches;
