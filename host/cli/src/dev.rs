//! `mortise dev`: a node to try things on, with plugins and tenants ready to use.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use mortise_node::config::{ADMIN_ADDRESS, Config, DATA_ADDRESS, LoggingSettings};
use mortise_node::server::Running;
use serde_json::json;

use crate::context::Context;
use crate::output;
use crate::running::{self, Signals};

/// Its arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Uploads the plugins that the node does not know yet, and gives each a tenant of its name. Without tokens and
without TLS, on loopback. The data stays: a second start goes on where the first one ended.

Examples:
  mortise dev
  mortise dev --data /tmp/try --plugins my/plugins
  mortise dev --address 127.0.0.1:7500 --admin-address 127.0.0.1:7501 --log info")]
pub(crate) struct DevArguments {
    /// The folder with the plugins, *.wasm [default: target/plugins, else ../plugins beside this program]
    #[arg(long, value_name = "FOLDER")]
    plugins: Option<PathBuf>,
    /// The data folder
    #[arg(long, value_name = "FOLDER", default_value = "data/dev")]
    data: PathBuf,
    /// Where to serve data; port 0: a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = DATA_ADDRESS)]
    address: SocketAddr,
    /// Where to serve administration and metrics; port 0: a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = ADMIN_ADDRESS)]
    admin_address: SocketAddr,
    /// The least severe log lines written: error, warn, info, debug, trace, or a list by module
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log: String,
}

/// Runs it.
pub(crate) async fn run(arguments: DevArguments, context: &Context) -> anyhow::Result<ExitCode> {
    mortise_node::logging::init(&LoggingSettings { level: arguments.log, ..LoggingSettings::default() })
        .context("--log")?;
    let mut signals = Signals::install()?;
    let plugins = find_plugins(arguments.plugins)?;
    if let Some(parent) = arguments.data.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("make the folder {}", parent.display()))?;
    }
    let mut config = Config::default();
    config.node.name = "dev".into();
    config.node.data_folder = arguments.data;
    config.data.address = Some(arguments.address);
    config.admin.address = Some(arguments.admin_address);
    let Some(running) = running::start(config, &mut signals, "--address", "--admin-address").await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let prepared = tokio::select! {
        prepared = prepare(&running, &plugins) => prepared,
        () = signals.wait() => {
            running.shutdown().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if let Err(error) = prepared {
        running.shutdown().await;
        return Err(error);
    }
    announce(running.data_address(), running.admin_address(), context.json)?;
    Ok(running::finish(running, &mut signals).await)
}

/// The folder asked for, else the first of the usual ones that is there.
fn find_plugins(asked: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = asked {
        if !folder.is_dir() {
            bail!("--plugins: {} is no folder; `cargo xtask plugins` makes target/plugins", folder.display());
        }
        return Ok(folder);
    }
    let program = std::env::current_exe().context("find this program")?;
    let beside = program.parent().and_then(Path::parent).map(|folder| folder.join("plugins"));
    let usual = [Some(PathBuf::from("target/plugins")), beside];
    let found = usual.into_iter().flatten().find(|folder| folder.is_dir());
    found
        .context("no folder of plugins: build them with `cargo xtask plugins`, or name theirs with --plugins")
}

/// Uploads what the node does not know, and makes the tenants that are missing.
async fn prepare(running: &Running, folder: &Path) -> anyhow::Result<()> {
    let replica = &running.replica().context("the node has no group")?;
    let read = || format!("read the folder of plugins {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(read)? {
        let path = entry.with_context(read)?.path();
        if path.extension() == Some(OsStr::new("wasm")) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        eprintln!(
            "mortise: there is no *.wasm in {}: `mortise plugin upload FILE` adds plugins",
            folder.display()
        );
    }
    let tenants: BTreeSet<_> = replica.list_tenants().into_iter().map(|tenant| tenant.name).collect();
    for file in files {
        let component = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let (plugin, known) = match replica.upload_plugin(component.into()).await {
            Ok(uploaded) => uploaded,
            Err(error) => {
                // The others are of use without it, and it may be somebody's work in progress.
                eprintln!("mortise: skipped {}: {error}", file.display());
                continue;
            }
        };
        let name = &plugin.manifest.name;
        if !tenants.contains(name) {
            let digest = plugin.digest.to_string();
            replica
                .create_tenant(name, &digest, true)
                .await
                .with_context(|| format!("create tenant {name}"))?;
        } else if !known {
            eprintln!(
                "mortise: {} is new, but tenant {name} keeps what it runs until \
                 `mortise tenant switch {name} --plugin {name}`",
                file.display()
            );
        }
    }
    Ok(())
}

/// Says that the node serves, and what to try.
fn announce(data: SocketAddr, admin: SocketAddr, json: bool) -> anyhow::Result<()> {
    let (data_url, admin_url) = (format!("http://{data}"), format!("http://{admin}"));
    let mut program = quote(&program());
    if data != DATA_ADDRESS {
        program = format!("{program} --endpoint {data_url}");
    }
    let try_next = [
        format!("{program} kv put greeting hello"),
        format!("{program} kv get greeting"),
        format!("{program} write ledger '{{\"open\":{{\"account\":\"ann\"}}}}'"),
    ];
    if json {
        let ready = json!({ "ready": true, "data": data_url, "admin": admin_url, "try": try_next });
        return output::line(&ready.to_string());
    }
    let try_next: String = try_next.iter().map(|command| format!("  {command}\n")).collect();
    output::line(&format!(
        "ready: data at {data_url}, admin at {admin_url}\nTry next, in another terminal:\n{try_next}"
    ))
}

/// How to call this program from the working directory.
fn program() -> String {
    let Ok(program) = std::env::current_exe() else {
        return "mortise".into();
    };
    let here = std::env::current_dir().ok();
    let relative = here.as_ref().and_then(|here| program.strip_prefix(here).ok());
    match relative {
        // Without a slash the shell would look for it elsewhere.
        Some(path) if path.components().count() == 1 => format!("./{}", path.display()),
        Some(path) => path.display().to_string(),
        None => program.display().to_string(),
    }
}

/// A word as a shell reads it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c);
    if word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_shell_whole() {
        assert_eq!(quote("target/debug/mortise"), "target/debug/mortise");
        assert_eq!(quote("/a b/it's"), r"'/a b/it'\''s'");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = find_plugins(Some("/no/such/folder".into())).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"));
    }
}
