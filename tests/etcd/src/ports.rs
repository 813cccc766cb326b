//! Free ports that stay free while a member is down.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

/// Below the ports that the system gives to outgoing connections, which might take one of a killed member.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// The ports of one member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) peer: u16,
    pub(crate) metrics: u16,
}

impl Ports {
    pub(crate) fn choose() -> Result<Self> {
        Ok(Self { client: free_port()?, peer: free_port()?, metrics: free_port()? })
    }
}

/// A port that nothing listens on, and that the system gives to nobody: it stays free while its process is down.
///
/// # Errors
/// None is free.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at once begin at different places.
    let start = (std::process::id().wrapping_mul(331) % u32::from(COUNT)) as u16;
    let mut candidates = (0..COUNT).map(|_| {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        FIRST + (start.wrapping_add(offset)) % COUNT
    });
    candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).context("find a free port")
}
