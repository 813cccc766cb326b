//! The `mortise` binary as its users run it: real processes, killed with −9 where it matters.

// clippy's exemption of tests does not reach the functions they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod clients;
mod commands;
mod events;
mod examples;
mod kit;
mod load;
mod processes;
mod serve;
mod watch;
