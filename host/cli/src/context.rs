//! What every command that speaks to a node needs: how to reach it, and how to print.

use std::time::Duration;

use anyhow::Context as _;
use mortise_client::{AdminClient, Client, ClientError, ClusterClient, Options, parse_endpoints};

use crate::arguments::GlobalArguments;
use crate::output;

/// The global options, read and ready.
pub(crate) struct Context {
    /// Whether to print JSON.
    pub(crate) json: bool,
    options: Options,
}

impl Context {
    /// Reads the files that the options name.
    pub(crate) fn new(arguments: &GlobalArguments) -> anyhow::Result<Self> {
        let token = match (&arguments.token, &arguments.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("read the token file {}", path.display()))?;
                let token = text.trim();
                anyhow::ensure!(!token.is_empty(), "the token file {} is empty", path.display());
                Some(token.to_owned())
            }
            (None, None) => None,
        };
        let ca = arguments.ca.as_ref();
        let ca_pem = ca
            .map(|path| {
                std::fs::read(path).with_context(|| format!("read the certificates {}", path.display()))
            })
            .transpose()?;
        let options = Options {
            endpoints: parse_endpoints(&arguments.endpoint)?,
            admin_endpoints: parse_endpoints(&arguments.admin_endpoint)?,
            token,
            ca_pem,
            timeout: Duration::from_secs(arguments.timeout),
            connect_timeout: Duration::from_secs(arguments.timeout.min(2)),
            ..Options::default()
        };
        Ok(Self { json: arguments.json, options })
    }

    /// How long a call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// The node's data service.
    pub(crate) async fn data(&self) -> Result<Client, ClientError> {
        Client::connect(&self.options).await
    }

    /// The node's admin service.
    pub(crate) async fn admin(&self) -> Result<AdminClient, ClientError> {
        AdminClient::connect(&self.options).await
    }

    /// The cluster service of a node.
    pub(crate) async fn cluster(&self) -> Result<ClusterClient, ClientError> {
        ClusterClient::connect(&self.options).await
    }

    /// Prints a value: as JSON where that was asked for, else as `text` says.
    pub(crate) fn print<T: serde::Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        if self.json { output::json(value) } else { output::line(&text(value)) }
    }
}
