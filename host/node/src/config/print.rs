//! What `mortise serve --print-config` shows: a file that could be read back, save for the tokens' hashes.

use std::fmt::Write;

use super::settings::{Section, Setting};
use super::{Config, TokenSettings};

pub(super) fn print(config: &Config) -> String {
    let mut text = String::from("# The configuration in force.\n");
    // The listeners' default addresses differ, so they are no defaults of the section.
    let mut data = config.data.clone();
    data.address = Some(config.data_address());
    let mut admin = config.admin.clone();
    admin.address = Some(config.admin_address());
    let mut peer = config.peer.clone();
    peer.address = Some(config.peer_address());
    section(&mut text, "node", &config.node);
    section(&mut text, "data", &data);
    section(&mut text, "admin", &admin);
    section(&mut text, "cluster", &config.cluster);
    section(&mut text, "peer", &peer);
    section(&mut text, "limits", &config.limits);
    section(&mut text, "storage", &config.storage);
    section(&mut text, "logging", &config.logging);
    config.tokens.iter().for_each(|settings| token(&mut text, settings));
    text
}

fn section<S: Section>(text: &mut String, name: &str, section: &S) {
    text.push('\n');
    S::DOC.iter().for_each(|line| comment(text, line));
    line(text, format_args!("[{name}]"));
    section.settings().iter().for_each(|one| setting(text, one));
}

fn setting(text: &mut String, setting: &Setting) {
    let Setting { name, doc, value, default, bounds } = setting;
    doc.iter().for_each(|line| comment(text, line));
    let default = default.as_ref().map_or("none".into(), ToString::to_string);
    match bounds {
        Some((min, max)) => comment(text, &format!(" Default {default}, minimum {min}, maximum {max}.")),
        None => comment(text, &format!(" Default {default}.")),
    }
    match value {
        Some(value) => line(text, format_args!("{name} = {value}")),
        None => line(text, format_args!("# {name} is not set")),
    }
}

/// As comments: without its hash a token cannot be read back.
fn token(text: &mut String, token: &TokenSettings) {
    let TokenSettings { name, hash: _, scopes, tenants, expires } = token;
    let scopes: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
    line(text, format_args!("\n# [[token]]\n# name = {name:?}\n# hash is hidden"));
    line(text, format_args!("# scopes = {scopes:?}\n# tenants = {tenants:?}"));
    match expires {
        Some(expiry) => line(text, format_args!("# expires = {expiry}")),
        None => line(text, format_args!("# expires is not set: never")),
    }
}

/// `doc` starts with a space, as the text after `///` does.
fn comment(text: &mut String, doc: &str) {
    line(text, format_args!("#{doc}"));
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = text.write_fmt(arguments);
    text.push('\n');
}
