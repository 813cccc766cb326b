//! Every interleaving of small worlds of real replicas ([`mortise_core::replica`]), within bounds, with stateright.
//!
//! ```text
//!   actions ──▶ perform ──▶ feed ──▶ Replica::step ──▶ effects ──▶ disks, network, coordinator
//!                             ▲                           │
//!                             └───── what follows ◀───────┤
//!                                                         └──▶ history ──▶ invariants
//! ```
//!
//! A state holds the cores themselves, so nothing here repeats a rule of the protocol: a rule that is put out of force in
//! the core ([`mortise_core::replica::Mutant`]) is one that the model has to miss.

pub mod action;
pub mod bounds;
pub mod configurations;
pub mod coordinator;
pub mod coverage;
pub mod disk;
pub mod history;
pub mod invariants;
pub mod model;
pub mod network;
pub mod node;
mod observe;
mod perform;
pub mod search;
pub mod step;
pub mod world;
