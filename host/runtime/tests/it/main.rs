//! The runtime against real components: shipped plugins, and guests that misbehave on demand.

// Helpers outside of `#[test]` functions, which the lint does not take for tests.
#![allow(clippy::unwrap_used)]

mod apply;
mod bulk;
mod cache;
mod limits;
mod load;
mod reads;
mod support;
mod text;
