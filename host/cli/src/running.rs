//! A node in this process, from start to end: what `serve` and `dev` share.

use std::io::ErrorKind;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use mortise_node::config::Config;
use mortise_node::server::{Running, ServeError, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::errors::FAILURE;

/// The signals that end a node.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they no longer kill the process.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("handle signals");
        Ok(Self {
            interrupt: install(SignalKind::interrupt())?,
            terminate: install(SignalKind::terminate())?,
        })
    }

    /// Waits for one.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Starts a node. `None`: it was told to stop before it served. `data` and `admin` say where the addresses are set.
pub(crate) async fn start(
    config: Config,
    signals: &mut Signals,
    data: &str,
    admin: &str,
) -> anyhow::Result<Option<Running>> {
    tokio::select! {
        started = Server::start(config) => started.map(Some).map_err(|error| explain(error, data, admin)),
        () = signals.wait() => Ok(None),
    }
}

/// Runs the node until it is told to stop, or stops by itself.
pub(crate) async fn finish(running: Running, signals: &mut Signals) -> ExitCode {
    let fault = tokio::select! {
        () = signals.wait() => None,
        fault = running.wait() => Some(fault),
    };
    if let Some(fault) = &fault {
        eprintln!(
            "mortise: the node stopped: {fault}; nothing acknowledged is lost: mend the cause and start it again"
        );
    }
    tokio::select! {
        () = running.shutdown() => {}
        () = signals.wait() => {
            eprintln!("mortise: told twice to stop: open calls were cut off");
            return ExitCode::from(FAILURE);
        }
    }
    if fault.is_some() { ExitCode::from(FAILURE) } else { ExitCode::SUCCESS }
}

fn explain(error: ServeError, data: &str, admin: &str) -> anyhow::Error {
    match error {
        ServeError::Bind { listener, address, source } if source.kind() == ErrorKind::AddrInUse => {
            let setting = if listener == "admin" { admin } else { data };
            anyhow!("another program listens on {address}: stop it, or choose another address with {setting}")
        }
        error => error.into(),
    }
}
