//! The mortise binary: serve, dev and every user command.

mod arguments;
mod cluster;
mod context;
mod data;
mod dev;
mod errors;
mod events;
mod group;
mod input;
mod kv;
mod load;
mod output;
mod plugin;
mod profile;
mod running;
mod serve;
mod status;
mod tenant;
mod token;
mod transfer;
mod verify;
mod watch;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory, Parser};

use crate::arguments::{Arguments, Command};
use crate::context::Context;

/// Writes are allocated on one thread and freed on another, by the thousand: glibc's allocator took over a third of
/// the apply thread's time with that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tokio's own name for how many workers there are.
const WORKER_THREADS: &str = "TOKIO_WORKER_THREADS";
/// Most workers.
const WORKERS_MAX: usize = 1024;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return errors::usage(&error),
    };
    let json = arguments.global.json;
    match start(arguments) {
        Ok(code) => code,
        Err(error) => errors::report(&error, json),
    }
}

fn start(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers(&arguments.command)?)
        .enable_all()
        .build()
        .context("start the threads: is a limit of the system too low?")?;
    let result = runtime.block_on(run(arguments));
    // What still runs in the background, such as a read of the terminal, must not hold up the end.
    runtime.shutdown_background();
    result
}

/// How many workers the network gets. By default a node takes half of the processors, and at least one: its other threads
/// need the rest, and the more workers are woken for a lone client's write, the later it is answered.
fn workers(command: &Command) -> anyhow::Result<usize> {
    let Some(value) = std::env::var_os(WORKER_THREADS) else {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let is_node = matches!(command, Command::Serve(_) | Command::Dev(_));
        return Ok(if is_node { processors.div_ceil(2) } else { processors });
    };
    let number = value.to_str().and_then(|value| value.parse().ok());
    number.filter(|number| (1..=WORKERS_MAX).contains(number)).with_context(|| {
        format!("{WORKER_THREADS} is {value:?}, and must be a number from 1 to {WORKERS_MAX}")
    })
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let context = &Context::new(&arguments.global)?;
    match arguments.command {
        Command::Serve(serve) => return serve::run(serve, context).await,
        Command::Dev(dev) => return dev::run(dev, context).await,
        Command::Verify(verify) => return verify::run(verify, context).await,
        Command::Group(command) => group::run(command, context).await?,
        Command::Cluster(command) => cluster::run(command, context).await?,
        Command::Tenant(command) => tenant::run(command, context).await?,
        Command::Plugin(command) => plugin::run(command, context).await?,
        Command::Profile(command) => profile::run(command, context).await?,
        Command::Write(write) => data::write(write, context).await?,
        Command::Query(query) => data::query(query, context).await?,
        Command::Fate(fate) => data::fate(fate, context).await?,
        Command::Watch(watch) => watch::run(watch, context).await?,
        Command::Kv(command) => kv::run(command, context).await?,
        Command::Load(load) => load::run(load, context).await?,
        Command::Events(events) => events::run(events, context).await?,
        Command::Status { group } => status::status(group, context).await?,
        Command::Snapshot(group) => status::snapshot(group, context).await?,
        Command::Token(command) => token::run(command, context)?,
        Command::Completions { shell } => completions(shell)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "mortise", &mut script);
    output::raw(&script)
}
