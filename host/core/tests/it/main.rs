//! The pure part against models, against bytes that nobody wrote, and against the bytes it wrote in the past.
//!
//! Generated cases come from fixed seeds: a test that failed once fails again.

#![allow(clippy::expect_used)] // What a model takes for granted fails the test where it does not hold.

mod codec;
mod digest;
mod entry;
mod generate;
mod golden;
mod group;
mod hard_state;
mod layer;
mod overlay;
mod profile;
mod session;
mod session_bounds;
mod session_model;
mod time;
