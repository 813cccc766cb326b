//! The pure part of a replica: what log entries say, what sessions remember, what time the log has, what a
//! plugin's writes look like before they reach storage, and how all of it is digested.
//!
//! Nothing here knows a clock, a file, a socket, a thread or randomness: the same inputs give the same outputs on
//! every machine. Storage and the plugin runtime meet at [`state::StateReader`] and [`layer::Layer`].

pub mod codec;
pub mod digest;
pub mod entry;
pub mod group;
pub mod ids;
pub mod layer;
pub mod outcome;
pub mod overlay;
pub mod profile;
pub mod replica;
pub mod session;
pub mod state;
pub mod time;
