//! One storage node: driver, apply, cluster, gRPC services, security, metrics, configuration

pub mod cluster;
pub mod config;
mod groups;
pub mod logging;
pub mod metrics;
pub mod replica;
pub mod security;
pub mod server;
mod services;
