//! `mortise load`: a file into a tenant.
//!

use clap::Args;

use crate::context::Context;

/// Its arguments.
#[derive(Args, Debug)]
pub(crate) struct LoadArguments {}

/// Runs it.
pub(crate) async fn run(_arguments: LoadArguments, _context: &Context) -> anyhow::Result<()> {
    anyhow::bail!("load is not there yet")
}
