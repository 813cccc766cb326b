//! The command line as a whole. Each group of commands declares its own arguments.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};

use crate::cluster::ClusterCommand;
use crate::data::{FateArguments, QueryArguments, WriteArguments};
use crate::dev::DevArguments;
use crate::events::EventsArguments;
use crate::group::GroupCommand;
use crate::kv::KvArguments;
use crate::load::LoadArguments;
use crate::plugin::PluginCommand;
use crate::profile::ProfileCommand;
use crate::serve::ServeArguments;
use crate::tenant::TenantCommand;
use crate::token::TokenCommand;
use crate::verify::VerifyArguments;
use crate::watch::WatchArguments;

/// A storage node whose data-handling logic is a WebAssembly component.
#[derive(Debug, Parser)]
#[command(name = "mortise", version, about, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) global: GlobalArguments,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  mortise dev                                      a node to try things on, with the shipped plugins
  mortise kv put greeting hello                    set a key
  mortise kv get greeting                          read it
  mortise write ledger '{\"open\":{\"account\":\"ann\"}}'
  mortise tenant create orders --plugin ledger     another ledger, apart from the first
  mortise tenant create orders --plugin ledger --group 2    … in a cluster of several groups
  mortise status --json | jq .applied_index        for scripts

Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  the tenant's plugin rejected the command
  4  not found: the tenant, the plugin or the key
  5  the node is unavailable, overloaded, or did not answer in time
  6  not permitted: no token, a wrong one, or one without the scope";

/// Options of every command that speaks to a node.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArguments {
    /// Print JSON, errors included
    #[arg(long, global = true, env = "MORTISE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// Where nodes serve data, one or several of a cluster
    #[arg(
        long,
        global = true,
        env = "MORTISE_ENDPOINT",
        value_name = "URL,…",
        default_value = "http://127.0.0.1:7400"
    )]
    pub(crate) endpoint: String,
    /// Where nodes serve administration, one or several of a cluster
    #[arg(
        long,
        global = true,
        env = "MORTISE_ADMIN_ENDPOINT",
        value_name = "URL,…",
        default_value = "http://127.0.0.1:7401"
    )]
    pub(crate) admin_endpoint: String,
    /// The bearer token; goes before --token-file, which keeps it out of the process list
    #[arg(long, global = true, env = "MORTISE_TOKEN", value_name = "SECRET", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// File with the bearer token
    #[arg(long, global = true, env = "MORTISE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the certificates, in PEM, of the authorities that vouch for the node (https:// needs it)
    #[arg(long, global = true, env = "MORTISE_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// How long a call may take
    #[arg(
        long,
        global = true,
        env = "MORTISE_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub(crate) timeout: u64,
}

/// The option of commands about what belongs to a group.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct GroupArgument {
    /// The group that is meant; needed where there are several
    #[arg(long, env = "MORTISE_GROUP", value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) group: Option<u64>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node from a configuration file
    Serve(ServeArguments),
    /// Run a node to try things on, without a configuration file
    Dev(DevArguments),
    /// Create, list, show, drop, switch, export and import tenants
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Upload, list and inspect plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Show and change the limits under which plugins run
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Send a command to a tenant, which may change its state
    Write(WriteArguments),
    /// Ask a tenant something, which changes nothing
    Query(QueryArguments),
    /// Tell what became of a write that the leader alone acknowledged
    Fate(FateArguments),
    /// Print a tenant's commands as they are applied, and what they change
    Watch(WatchArguments),
    /// Read and write a tenant of the kv plugin
    Kv(KvArguments),
    /// Load a CSV or NDJSON file into a tenant
    Load(LoadArguments),
    /// Create and list the groups of a cluster
    #[command(subcommand)]
    Group(GroupCommand),
    /// Show a cluster's state, and change who leads and who is a member
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show who leads and who follows in a cluster's groups, and what happens to them
    Events(EventsArguments),
    /// Show how the node is, and its replica of a group
    Status {
        /// The group; by default the one with the lowest number that the node has
        #[arg(long, env = "MORTISE_GROUP", value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
        group: Option<u64>,
    },
    /// Write a snapshot of the node's replica of a group now, and drop the log that it covers
    Snapshot(GroupArgument),
    /// Check a data folder that no node uses
    Verify(VerifyArguments),
    /// Make tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print a script that completes commands in a shell
    #[command(
        after_help = "Example:\n  mortise completions bash > ~/.local/share/bash-completion/completions/mortise"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn refused(line: &[&str]) -> String {
        Arguments::try_parse_from(line).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn the_declaration_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        let line = ["mortise", "kv", "get", "k", "--json", "--timeout", "3"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        assert!(arguments.global.json);
        assert_eq!(arguments.global.timeout, 3);
    }

    #[test]
    fn wrong_usage_is_refused() {
        assert!(refused(&["mortise", "tenant", "drop", "a"]).contains("--yes"));
        assert!(refused(&["mortise", "status", "--timeout", "0"]).contains("--timeout"));
        assert!(refused(&["mortise", "write", "t", "c", "--wait"]).contains("--ack"));
        assert!(refused(&["mortise", "fate", "t", "7"]).contains("1.3.1702"));
        for read in [&["query", "t", "q"][..], &["kv", "get", "k"], &["kv", "range"]] {
            let line = [&["mortise"], read, &["--lease", "--stale-ms", "5"]].concat();
            assert!(refused(&line).contains("--lease"), "{read:?}");
            assert!(
                Arguments::try_parse_from([&["mortise"], read, &["--at-least", "1.3.7"]].concat()).is_ok()
            );
        }
        assert!(Arguments::try_parse_from(["mortise", "fate", "t", "1.3.7", "--token", "secret"]).is_ok());
        assert!(
            Arguments::try_parse_from(["mortise", "write", "t", "c", "--ack", "leader", "--wait"]).is_ok()
        );
        let cas = |arguments: &[&'static str]| [&["mortise", "kv", "cas", "k", "v"], arguments].concat();
        assert!(Arguments::try_parse_from(cas(&["--expect", "a", "--ttl", "3"])).is_ok());
        assert!(Arguments::try_parse_from(cas(&["--expect-absent"])).is_ok());
        assert!(refused(&cas(&[])).contains("--expect"));
        assert!(refused(&cas(&["--expect", "a", "--expect-version", "1"])).contains("cannot be used"));
    }
}
