//! One storage node: driver, apply, gRPC services, security, metrics, configuration

pub mod config;
pub mod logging;
pub mod metrics;
pub mod replica;
pub mod security;
pub mod server;
mod services;
