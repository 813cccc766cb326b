//! `mortise serve`: TLS, tokens, and what becomes of callers without them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::kit::{Node, binary, folder, plugins};

/// A certificate for this machine that vouches for itself: its file, and that of its key.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

/// A token's secret, and its table for the configuration: as `mortise token new` makes them.
fn token(arguments: &[&str]) -> (String, String) {
    let output = Command::new(binary()).args(["--json", "token", "new"]).args(arguments).output().unwrap();
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let field = |name: &str| made[name].as_str().unwrap().to_owned();
    (field("secret"), field("config"))
}

fn serve(config: &Path, text: &str) -> Command {
    std::fs::write(config, text).unwrap();
    let mut command = Command::new(binary());
    command.arg("serve").arg("--config").arg(config);
    command
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn over_tls_a_token_opens_what_it_is_for_and_nothing_else() {
    let folder = folder();
    let (cert, key) = certificate(folder.path());
    let (admin, admin_table) = token(&["operator", "--scope", "admin"]);
    let (shop, shop_table) = token(&["shop", "--scope", "tenant:read,tenant:write", "--tenant", "orders"]);
    let (reader, reader_table) = token(&["reader", "--scope", "tenant:read", "--tenant", "orders"]);
    let (old, old_table) = token(&["old", "--scope", "tenant:read", "--expires", "2020-01-31T12:00:00Z"]);
    let listener = format!("address = \"127.0.0.1:0\"\ntls_cert = {cert:?}\ntls_key = {key:?}\n");
    let data = folder.path().join("data");
    let text = format!(
        "[node]\ndata_folder = {data:?}\n[data]\n{listener}[admin]\n{listener}\
         {admin_table}{shop_table}{reader_table}{old_table}"
    );
    let config = folder.path().join("node.toml");
    let node = Node::launch(&mut serve(&config, &text));
    let run = |token: &str, arguments: &[&str]| {
        let mut command = node.command(arguments);
        command.arg("--ca").arg(&cert).env("MORTISE_TOKEN", token).output().unwrap()
    };
    let ok = |token: &str, arguments: &[&str]| {
        let output = run(token, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", error(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let refused = |token: &str, arguments: &[&str], says: &str| {
        let output = run(token, arguments);
        assert_eq!(output.status.code(), Some(6), "{arguments:?}: {}", error(&output));
        assert!(error(&output).contains(says), "{arguments:?}: {}", error(&output));
    };
    let ledger = plugins().join("ledger.wasm");
    ok(&admin, &["plugin", "upload", ledger.to_str().unwrap()]);
    for tenant in ["orders", "others"] {
        ok(&admin, &["tenant", "create", tenant, "--plugin", "ledger"]);
    }
    let transfer = r#"{"transfer": {"debit": "a", "credit": "b", "amount": 1, "key": "k", "open_missing": "unlimited"}}"#;
    let history = r#"{"history": {"account": "b"}}"#;
    ok(&shop, &["write", "orders", transfer]);
    ok(&reader, &["query", "orders", history]);
    assert!(ok(&admin, &["status"]).contains("node-1"));

    refused(&reader, &["write", "orders", transfer], "lacks the scope tenant:write");
    refused(&shop, &["write", "others", transfer], "not for the tenant");
    refused(&shop, &["status"], "lacks the scope admin");
    refused(&admin, &["query", "orders", history], "lacks the scope tenant:read");
    refused(&old, &["query", "orders", history], "has expired");
    refused("mrt_wrong", &["query", "orders", history], "not known");
    let missing = node.command(&["query", "orders", history]).arg("--ca").arg(&cert).output().unwrap();
    assert_eq!(missing.status.code(), Some(6), "{}", error(&missing));
    // A caller who cannot tell that this is the node does not send it a token.
    let mut status = node.command(&["status"]);
    let unsure = status.env("MORTISE_TOKEN", &admin).output().unwrap();
    assert!(error(&unsure).contains("needs the certificate of an authority"), "{}", error(&unsure));
    let (other, _) = certificate(&folder.path().join("other"));
    let fooled = status.arg("--ca").arg(other).output().unwrap();
    assert_eq!(fooled.status.code(), Some(5), "{}", error(&fooled));

    // The log entry holds who wrote: the state is rebuilt from it.
    assert_eq!(node.interrupt(), Some(0));
    std::fs::remove_dir_all(data.join("state")).unwrap();
    let node = Node::launch(&mut serve(&config, &text));
    let mut query = node.command(&["query", "orders", r#"{"transfer_by_key": {"key": "k"}}"#]);
    let found = query.arg("--ca").arg(&cert).env("MORTISE_TOKEN", &reader).output().unwrap();
    let transfer = String::from_utf8(found.stdout).unwrap();
    assert!(transfer.contains(r#""by":"shop""#), "{transfer}");
}

#[test]
fn beyond_loopback_a_node_needs_tls_and_tokens_or_to_be_told_that_it_may_do_without() {
    let folder = folder();
    let (data, config) = (folder.path().join("data"), folder.path().join("node.toml"));
    let (_, table) = token(&["operator", "--scope", "admin"]);
    let text = format!(
        "[node]\ndata_folder = {data:?}\n[data]\naddress = \"0.0.0.0:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n"
    );
    for (text, missing) in
        [(text.clone(), "TLS (tls_cert and tls_key) and tokens"), (text.clone() + &table, "without TLS")]
    {
        let output = serve(&config, &text).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(error(&output).contains("data.address is 0.0.0.0:0"), "{}", error(&output));
        assert!(error(&output).contains(missing), "{}", error(&output));
    }
    let node = Node::launch(serve(&config, &text).arg("--insecure"));
    node.ok(&["status"]);
}

#[test]
fn the_configuration_in_force_is_printed_and_can_be_served() {
    let folder = folder();
    let print = |arguments: &[&str]| {
        let output =
            Command::new(binary()).args(["serve", "--print-config"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", error(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let defaults = print(&[]);
    let config = folder.path().join("node.toml");
    std::fs::write(&config, &defaults).unwrap();
    assert_eq!(print(&["--config", config.to_str().unwrap()]), defaults);
    std::fs::write(&config, defaults.replace("queries_max = 4", "queries_max = 5")).unwrap();
    assert!(print(&["--config", config.to_str().unwrap()]).contains("queries_max = 5"));
    let neither = Command::new(binary()).arg("serve").output().unwrap();
    assert_eq!(neither.status.code(), Some(2), "{}", error(&neither));
}

#[test]
fn a_number_of_workers_that_is_none_is_refused() {
    for value in ["0", "-1", "two", "4000000000"] {
        let mut command = Command::new(binary());
        command.args(["serve", "--print-config"]).env("TOKIO_WORKER_THREADS", value);
        let refused = command.output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{value}");
        let expected = format!("TOKIO_WORKER_THREADS is {value:?}, and must be a number from 1 to 1024");
        assert!(error(&refused).contains(&expected), "{}", error(&refused));
    }
}
