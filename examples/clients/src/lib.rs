//! What the examples share: where the node or the cluster is.

use anyhow::Context as _;
use clap::Args;
use mortise_client::{Client, Options, parse_endpoints};

/// Where to find it.
#[derive(Args)]
pub struct Place {
    /// Where nodes serve data, separated by commas: one of a cluster is enough, several survive its loss
    #[arg(long, env = "MORTISE_ENDPOINT", default_value = "http://127.0.0.1:7400")]
    endpoint: String,
}

impl Place {
    /// Connects.
    ///
    /// # Errors
    /// No address, or nobody answers there.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let options = Options { endpoints: parse_endpoints(&self.endpoint)?, ..Options::default() };
        Client::connect(&options).await.context("reach a node; `cargo xtask dev` starts one")
    }
}

/// The program in README.md compiles.
#[cfg(doctest)]
#[allow(
    rustdoc::invalid_codeblock_attributes,
    reason = "`sh no-run` tells `cargo xtask test` what not to run"
)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
