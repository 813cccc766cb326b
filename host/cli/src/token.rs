//! `mortise token`: bearer tokens.

use anyhow::Context as _;
use clap::Subcommand;
use mortise_node::config::Config;
use mortise_node::security::Token;
use serde_json::json;

use crate::context::Context;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token: prints its secret, which is kept nowhere, and what the node's configuration needs
    #[command(after_help = "\
Examples:
  mortise token new operator --scope admin
  mortise token new shop --scope tenant:read --scope tenant:write --tenant orders --expires 2030-01-31T12:00:00Z")]
    New {
        /// Its holder's name, as log entries and plugins see it
        name: String,
        /// What it may do: admin, metrics, tenant:read, tenant:write
        #[arg(long = "scope", required = true, value_name = "SCOPE", value_delimiter = ',')]
        scopes: Vec<String>,
        /// A tenant that it may read or write [default with tenant scopes: "*", all of them]
        #[arg(long = "tenant", value_name = "TENANT", value_delimiter = ',')]
        tenants: Vec<String>,
        /// When it stops working, in RFC 3339 [default: never]
        #[arg(long, value_name = "MOMENT")]
        expires: Option<String>,
    },
}

/// Runs one.
pub(crate) fn run(command: TokenCommand, context: &Context) -> anyhow::Result<()> {
    let TokenCommand::New { name, scopes, tenants, expires } = command;
    let token = Token::generate()?;
    let stanza = stanza(&name, &token.hash(), &scopes, tenants, expires.as_deref())?;
    let made = json!({ "name": name, "secret": token.secret(), "hash": token.hash(), "config": stanza });
    context.print(&made, |_| {
        let secret = token.secret();
        format!("secret, shown only now: {secret}\n\nInto the node's configuration or its tokens file:\n\n{stanza}")
    })
}

/// What the configuration needs, checked by the configuration's own rules.
fn stanza(
    name: &str,
    hash: &str,
    scopes: &[String],
    mut tenants: Vec<String>,
    expires: Option<&str>,
) -> anyhow::Result<String> {
    if tenants.is_empty() && scopes.iter().any(|scope| scope.starts_with("tenant:")) {
        tenants.push(mortise_node::config::ALL_TENANTS.into());
    }
    let mut text = format!(
        "[[token]]\nname = {}\nhash = {}\nscopes = {}\n",
        toml::Value::from(name),
        toml::Value::from(hash),
        toml::Value::from(scopes.to_vec()),
    );
    if !tenants.is_empty() {
        text = format!("{text}tenants = {}\n", toml::Value::from(tenants));
    }
    if let Some(expires) = expires {
        text = format!("{text}expires = {}\n", toml::Value::from(expires));
    }
    Config::parse(&text, "the token").and_then(|config| config.check()).context("such a token cannot be")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_what_the_node_reads() {
        let hash = "ab".repeat(32);
        let scopes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let made = stanza("shop", &hash, &scopes(&["tenant:read"]), Vec::new(), Some("2030-01-31T12:00:00Z"))
            .unwrap();
        assert!(made.contains("tenants = [\"*\"]") && made.contains("expires"), "{made}");
        assert!(stanza("shop", &hash, &scopes(&["root"]), Vec::new(), None).is_err());
        assert!(stanza("a shop", &hash, &scopes(&["admin"]), Vec::new(), None).is_err());
        assert!(stanza("shop", &hash, &scopes(&["admin"]), Vec::new(), Some("tomorrow")).is_err());
    }
}
