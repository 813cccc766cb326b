//! `mortise serve`: a node from a configuration file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use mortise_node::config::Config;
use serde_json::json;

use crate::context::Context;
use crate::output;
use crate::running::{self, Signals};

/// Its arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints a line that starts with `ready` when it serves, and says where it does. SIGINT and SIGTERM let open calls end, then stop it.

Examples:
  mortise serve --print-config > node.toml          every setting with its meaning, default and bounds
  mortise serve --config node.toml
  mortise serve --config node.toml --print-config   what is in force")]
pub(crate) struct ServeArguments {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE", required_unless_present = "print_config")]
    config: Option<PathBuf>,
    /// Serve beyond loopback without TLS or tokens: anybody who reaches the node can read and write everything
    #[arg(long)]
    insecure: bool,
    /// Print the configuration in force instead of serving; without --config, the defaults
    #[arg(long)]
    print_config: bool,
}

/// Runs it.
pub(crate) async fn run(arguments: ServeArguments, context: &Context) -> anyhow::Result<ExitCode> {
    let mut config = arguments.config.as_deref().map(Config::load).transpose()?.unwrap_or_default();
    config.node.insecure |= arguments.insecure;
    config.check()?;
    if arguments.print_config {
        output::line(&config.print())?;
        return Ok(ExitCode::SUCCESS);
    }
    mortise_node::logging::init(&config.logging)?;
    let mut signals = Signals::install()?;
    let (data, admin) = ("data.address in the configuration", "admin.address in the configuration");
    let scheme = |tls: bool| if tls { "https" } else { "http" };
    let (data_scheme, admin_scheme) =
        (scheme(config.data.tls_cert.is_some()), scheme(config.admin.tls_cert.is_some()));
    let Some(running) = running::start(config, &mut signals, data, admin).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let data = format!("{data_scheme}://{}", running.data_address());
    let admin = format!("{admin_scheme}://{}", running.admin_address());
    let peer = running.peer_address();
    if context.json {
        let peer = peer.map(|peer| peer.to_string());
        output::line(&json!({ "ready": true, "data": data, "admin": admin, "peer": peer }).to_string())?;
    } else {
        let peers = peer.map(|peer| format!(", peers at {peer}")).unwrap_or_default();
        output::line(&format!("ready: data at {data}, admin at {admin}{peers}"))?;
    }
    Ok(running::finish(running, &mut signals).await)
}
