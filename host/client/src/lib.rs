//! Rust client of a Mortise node
