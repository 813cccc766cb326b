//! `cargo xtask`: set-up, build, dev, test and benchmarks. Each step says in one line what it does and why.
//!
//! ```text
//! test ─┬─▶ lint ──▶ fmt, clippy, cargo-deny      Each command sets up what it needs, and only that.
//!       ├─▶ plugins ──▶ target/plugins/*.wasm
//!       ├─▶ cargo test
//!       └─▶ readme ──▶ dev
//! ```

mod build;
mod lint;
mod readme;
mod run;
mod setup;
mod verify;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Everything one does in this repository. Two to begin with: `cargo xtask dev` and `cargo xtask test`.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds host and plugins and starts a node on this machine, ready to be tried
    ///
    /// The first start compiles wasmtime, which takes some minutes. What follows is passed on to `mortise dev`.
    Dev {
        /// Arguments for `mortise dev`; try --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Starts an etcd and three nodes on this machine, ready to be tried: a cluster
    ///
    /// Prints the addresses, and keeps logs and data below target/cluster. Ctrl-C stops all of it.
    Cluster {
        /// Arguments for the cluster: --nodes N --kill-loop --seed N …; try --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Verifies everything: set-up, format, clippy, cargo-deny, plugins, all tests, the README's commands
    ///
    /// This is what continuous integration runs. Ends with a line for each step, with its time.
    Test {
        /// Only this step
        #[arg(long, value_enum, value_name = "STEP")]
        only: Option<verify::Step>,
    },
    /// Installs what is missing on this machine: wasm32's standard library, protoc, etcd, cargo-deny
    ///
    /// All of it goes below target/tools, besides rustup's target. The other commands do this by themselves.
    Setup {
        /// Only say what is there and what is missing
        #[arg(long)]
        check: bool,
    },
    /// Builds the product in release mode: target/release/mortise
    Build,
    /// Compiles the shipped plugins and the example to components: target/plugins/*.wasm
    Plugins,
    /// Compiles a plugin of your own to a component, FOLDER/NAME.wasm, to be uploaded
    Plugin {
        /// The folder of its Cargo.toml
        folder: PathBuf,
    },
    /// Simulates replica groups with faults, seed after seed, in release mode; try `cargo xtask sim -- --help`
    ///
    /// A seed that breaks a rule of the protocol is printed with the command that repeats it.
    Sim {
        /// Arguments for the simulator: --seeds N --start S --scenario NAME --trace …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Searches every interleaving of small replica groups, in release mode; try `cargo xtask model -- --help`
    ///
    /// The test suite searches the same configurations with the least bounds. A broken invariant is printed with the
    /// shortest way to it.
    Model {
        /// Arguments for the model: --bounds N --only NAME --mutant RULE --threads N
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Checks format, clippy (warnings are errors), and licences, sources and advisories of dependencies
    Lint,
    /// Measures: `micro` parts of the node, its replica `core`, a `single` node under load, `coordination` of many groups by etcd, `failover` of a cluster, or a `cluster` beside etcd
    Bench {
        /// What to measure
        #[arg(value_parser = ["micro", "core", "single", "coordination", "failover", "cluster"])]
        what: String,
        /// Arguments for the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by returning it: a user who set RUST_BACKTRACE would be shown ours.
            run::say(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Dev { arguments } => build::dev(&arguments),
        Task::Cluster { arguments } => build::cluster(&arguments),
        Task::Test { only } => verify::verify(only),
        Task::Setup { check: true } => setup::report(),
        Task::Setup { check: false } => setup::ensure(setup::ALL),
        Task::Build => build::release(),
        Task::Plugins => build::plugins(),
        Task::Plugin { folder } => build::plugin(&folder),
        Task::Lint => lint::lint(),
        Task::Sim { arguments } => build::sim(&arguments),
        Task::Model { arguments } => build::model(&arguments),
        Task::Bench { what, arguments } => build::bench(&what, &arguments),
    }
}
