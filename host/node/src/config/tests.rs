use mortise_core::group::NodeId;

use super::*;

fn check(text: &str) -> Result<Config, ConfigError> {
    let config = Config::parse(text, "test.toml")?;
    config.check()?;
    Ok(config)
}

fn error(text: &str) -> String {
    check(text).unwrap_err().to_string()
}

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn token(rest: &str) -> String {
    format!("[[token]]\nname = \"t\"\nhash = \"{HASH}\"\n{rest}\n")
}

#[test]
fn the_empty_file_is_a_node_on_loopback() {
    let config = check("").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.data_address().to_string(), "127.0.0.1:7400");
    assert_eq!(config.admin_address().to_string(), "127.0.0.1:7401");
}

#[test]
fn an_unknown_name_is_an_error_with_its_position() {
    let message = error("[node]\nname = \"a\"\ndata_foldr = \"x\"\n");
    assert!(message.contains("test.toml") && message.contains("line 3"), "{message}");
    assert!(message.contains("data_foldr") && message.contains("data_folder"), "{message}");
    assert!(error("[nodes]\n").contains("line 1"));
}

#[test]
fn a_syntax_error_and_a_wrong_type_have_their_position() {
    assert!(error("[node]\nname = \n").contains("line 2"));
    assert!(error("[limits]\nqueries_max = \"many\"\n").contains("line 2"));
    assert!(error("[data]\naddress = \"localhost\"\n").contains("line 2"));
}

#[test]
fn a_number_out_of_bounds_is_named_with_value_and_bounds() {
    assert_eq!(
        error("[storage]\nlog_segment_bytes = 5"),
        "storage.log_segment_bytes is 5, but must be from 1048576 to 4294967296"
    );
    assert_eq!(error("[limits]\nqueries_max = 0"), "limits.queries_max is 0, but must be from 1 to 512");
    let message = error("[limits]\nmessage_bytes_max = 1_000_000");
    assert_eq!(message, "limits.command_bytes_max is 8388608, but must be from 1024 to 998976");
}

#[test]
fn other_bad_values_are_named() {
    assert!(error("[node]\nname = \"Node 1\"").contains("node.name is \"Node 1\""));
    assert!(error("[logging]\nlevel = \"mortise=loud\"").contains("logging.level is \"mortise=loud\""));
    assert!(error("[logging]\nformat = \"xml\"").contains("line 2"));
    assert!(error("[data]\ntls_cert = \"c.pem\"").contains("tls_cert and tls_key go together"));
    assert!(error("[data]\ntls_client_ca = \"c.pem\"").contains("set tls_cert and tls_key, too"));
    assert!(error("[node]\ntokens_file = \"/no/such/file\"").contains("read /no/such/file"));
}

#[test]
fn certificates_name_nodes_where_peers_show_them() {
    let tls = "[peer]\ntls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n";
    let names = |text: &str| Config::parse(text, "a test").unwrap().certificate_names().unwrap();
    assert_eq!(names(tls), None, "nobody is asked for a certificate");
    let mutual = format!("{tls}tls_client_ca = \"ca.pem\"\n");
    assert_eq!(names(&mutual).unwrap().of(NodeId(7)), "node-7.mortise");
    let named = format!("{mutual}[cluster]\nname = \"east\"\n");
    assert_eq!(names(&named).unwrap().of(NodeId(7)), "node-7.east");
    let own = format!("{mutual}[cluster]\npeer_certificate_name = \"m{{node}}.example.org\"");
    assert_eq!(names(&own).unwrap().of(NodeId(7)), "m7.example.org");
    assert_eq!(names(&format!("{mutual}[cluster]\npeer_certificate_name = \"\"")), None);
    let same = error(&format!("{mutual}[cluster]\npeer_certificate_name = \"node.example.org\""));
    assert!(same.contains("cluster.peer_certificate_name") && same.contains("must contain {node}"), "{same}");
}

#[test]
fn an_address_beyond_loopback_needs_tls_and_tokens() {
    let tls = "tls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n";
    let tokens = token("scopes = [\"admin\"]");
    let open = "[data]\naddress = \"0.0.0.0:7400\"\n";
    let message = error(open);
    assert!(message.starts_with("data.address is 0.0.0.0:7400, which other machines can reach"), "{message}");
    assert!(message.contains("without TLS (tls_cert and tls_key) and tokens"), "{message}");
    assert!(error(&format!("{open}{tls}")).contains("without tokens"));
    assert!(error(&format!("{open}{tokens}")).contains("without TLS"));
    assert!(error("[admin]\naddress = \"[::]:7401\"\n").contains("admin.address is [::]:7401"));
    check(&format!("{open}{tls}{tokens}")).unwrap();
    check(&format!("[node]\ninsecure = true\n{open}")).unwrap();
    check("[data]\naddress = \"[::1]:0\"").unwrap();
    check("[data]\naddress = \"[::ffff:127.0.0.1]:0\"").unwrap();
}

#[test]
fn tokens_are_checked() {
    check(&token("scopes = [\"tenant:read\"]\ntenants = [\"*\"]\nexpires = 2030-01-01T00:00:00Z")).unwrap();
    check(&token("scopes = [\"admin\", \"metrics\"]\nexpires = \"2030-01-01T00:00:00+02:00\"")).unwrap();
    assert!(error(&token("scopes = []")).contains("it may do nothing"));
    assert!(error(&token("scopes = [\"tenant:read\"]")).contains("need tenants"));
    assert!(error(&token("scopes = [\"root\"]")).contains("tenant:read"));
    assert!(
        error(&token("scopes = [\"admin\"]\nexpires = 2030-01-01")).contains("needs date, time and offset")
    );
    assert!(error(&token("scopes = [\"admin\"]").repeat(2)).contains("another token has this name"));
    let other = token("scopes = [\"admin\"]").replace("\"t\"", "\"u\"");
    assert!(
        error(&format!("{}{other}", token("scopes = [\"admin\"]"))).contains("another token has this hash")
    );
}

#[test]
fn a_secret_in_place_of_its_hash_does_not_reach_the_message() {
    let text = token("scopes = [\"admin\"]").replace(HASH, "mrt_oops");
    let message = error(&text);
    assert!(message.contains("hash of token \"t\"") && !message.contains("oops"), "{message}");
}

#[test]
fn what_is_printed_reads_back_and_documents_every_setting() {
    let text = "[node]\nname = \"n\"\n[limits]\nqueries_max = 9\n[data]\naddress = \"127.0.0.1:9\"\n";
    let mut config = check(text).unwrap();
    let printed = config.print();
    let again = check(&printed).unwrap();
    config.admin.address = Some(ADMIN_ADDRESS);
    config.peer.address = Some(PEER_ADDRESS);
    assert_eq!(again, config);
    assert!(printed.contains("# Default 4, minimum 1, maximum 512.\nqueries_max = 9\n"), "{printed}");
    assert!(printed.contains("# tls_cert is not set\n"));
    let settings = [
        config.node.settings(),
        config.data.settings(),
        config.cluster.settings(),
        config.limits.settings(),
        config.storage.settings(),
        config.logging.settings(),
    ];
    for setting in settings.iter().flatten() {
        assert!(setting.doc.iter().any(|line| line.len() > 10), "{} is not documented", setting.name);
    }
}

#[test]
fn neither_secrets_nor_hashes_are_printed() {
    let config = check(&token("scopes = [\"admin\"]")).unwrap();
    let printed = config.print();
    assert!(!printed.contains(HASH) && printed.contains("# name = \"t\""), "{printed}");
    check(&printed).unwrap();
}

#[test]
fn a_tokens_file_adds_to_the_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.toml");
    std::fs::write(&path, token("scopes = [\"admin\"]")).unwrap();
    let text = format!("[node]\ntokens_file = {:?}", path.to_str().unwrap());
    assert_eq!(check(&text).unwrap().all_tokens().unwrap().len(), 1);
    std::fs::write(&path, "").unwrap();
    assert!(error(&text).contains("it has no [[token]]"));
    std::fs::write(&path, "[[token]]\nname = 3").unwrap();
    assert!(error(&text).contains("tokens.toml"));
}

#[test]
fn a_cluster_that_cannot_be_is_named() {
    assert!(error("[cluster]\nname = \"a/b\"").contains("cluster.name is \"a/b\""));
    let message = error("[cluster]\nshrink_after_ms = 900");
    assert_eq!(message, "cluster.shrink_after_ms is 900, but must be from 200 to 899");
    assert!(error("[cluster]\netcd_user = \"ann\"").contains("it needs etcd_password_file"));
    assert!(error("[cluster]\netcd_cert = \"c.pem\"").contains("etcd_cert and etcd_key go together"));
    assert!(error("[cluster.peer_addresses]\nx = \"a:1\"").contains("cluster.peer_addresses.x"));
    assert!(error("[node]\nid = 0").contains("node.id is 0"));
    let exposed = error("[peer]\naddress = \"10.0.0.1:7402\"");
    assert!(exposed.contains("without TLS (tls_cert, tls_key and tls_client_ca)"), "{exposed}");
    let alone = check("").unwrap();
    assert!(!alone.is_clustered());
    assert!(check("[cluster]\netcd = [\"http://127.0.0.1:2379\"]").unwrap().is_clustered());
}
