//! TLS on every listener, over HTTP/2 for gRPC and HTTP/1.1 for metrics, with and without clients' certificates.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mortise_node::config::{Config, Scope, TokenSettings};
use mortise_node::security::Token;
use mortise_proto::v1::StatusRequest;
use mortise_proto::v1::admin_client::AdminClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::kit::{Node, PATIENCE, bearing};

/// A certificate for `localhost` that vouches for itself, and its key.
struct Certified {
    _folder: tempfile::TempDir,
    cert: PathBuf,
    key: PathBuf,
}

fn certified() -> Certified {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Certified { _folder: folder, cert, key }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn with_tls(config: &mut Config, server: &Certified) {
    for listener in [&mut config.data, &mut config.admin] {
        listener.tls_cert = Some(server.cert.clone());
        listener.tls_key = Some(server.key.clone());
    }
}

fn tokens() -> (Token, Token, Vec<TokenSettings>) {
    let (admin, metrics) = (Token::generate().unwrap(), Token::generate().unwrap());
    let settings = |name: &str, token: &Token, scope| TokenSettings {
        name: name.into(),
        hash: token.hash(),
        scopes: vec![scope],
        tenants: vec![],
        expires: None,
    };
    let all = vec![settings("admin", &admin, Scope::Admin), settings("metrics", &metrics, Scope::Metrics)];
    (admin, metrics, all)
}

async fn connect(address: SocketAddr, tls: ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", address.port())).unwrap();
    endpoint.tls_config(tls.domain_name("localhost")).unwrap().connect().await
}

/// What the server answers to `GET /metrics` over TLS and HTTP/1.1.
async fn fetch(address: SocketAddr, server: &Certified, token: Option<&str>) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&server.cert).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{token}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = Vec::new();
    // The server may close without TLS's own goodbye.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut page)).await.unwrap();
    String::from_utf8(page).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_everything_is_behind_tls_and_tokens() {
    let server = certified();
    let (admin, metrics, settings) = tokens();
    let node = Node::start(|config| {
        with_tls(config, &server);
        config.tokens = settings;
        config.data.address = Some(([0, 0, 0, 0], 0).into());
        config.admin.address = Some(([0, 0, 0, 0], 0).into());
    })
    .await;
    let address = SocketAddr::from(([127, 0, 0, 1], node.running.admin_address().port()));
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&server.cert)));
    let mut client = AdminClient::new(connect(address, tls).await.unwrap());
    client.status(bearing(admin.secret(), StatusRequest::default())).await.unwrap();
    assert_eq!(
        client.status(StatusRequest::default()).await.unwrap_err().code(),
        tonic::Code::Unauthenticated
    );

    assert!(fetch(address, &server, None).await.starts_with("HTTP/1.1 401 Unauthorized\r\n"));
    assert!(fetch(address, &server, Some("mrt_wrong")).await.starts_with("HTTP/1.1 401 "));
    for token in [&admin, &metrics] {
        let page = fetch(address, &server, Some(token.secret())).await;
        assert!(
            page.starts_with("HTTP/1.1 200 OK\r\n")
                && page.contains("mortise_group_applied_index{group=\"1\"}"),
            "{page}"
        );
    }
    // Without TLS nobody gets in.
    let plain = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await;
    let refused = match plain {
        Err(_) => true,
        Ok(channel) => AdminClient::new(channel).status(StatusRequest::default()).await.is_err(),
    };
    assert!(refused);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_fitting_scope_sees_no_metrics() {
    let server = certified();
    let token = Token::generate().unwrap();
    let settings = TokenSettings {
        name: "reader".into(),
        hash: token.hash(),
        scopes: vec![Scope::TenantRead],
        tenants: vec!["*".into()],
        expires: None,
    };
    let node = Node::start(|config| {
        with_tls(config, &server);
        config.tokens = vec![settings];
    })
    .await;
    let page = fetch(node.running.admin_address(), &server, Some(token.secret())).await;
    assert!(page.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{page}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_clients_need_a_certificate_only_those_with_one_get_in() {
    let (server, client) = (certified(), certified());
    let node = Node::start(|config| {
        with_tls(config, &server);
        config.admin.tls_client_ca = Some(client.cert.clone());
    })
    .await;
    let address = node.running.admin_address();
    let tls = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&server.cert)));
    let identity = |who: &Certified| Identity::from_pem(read(&who.cert), read(&who.key));
    let status = async |tls: ClientTlsConfig| -> Result<(), String> {
        let channel = connect(address, tls).await.map_err(|error| error.to_string())?;
        let status = AdminClient::new(channel).status(StatusRequest::default()).await;
        status.map(drop).map_err(|error| error.to_string())
    };
    status(tls().identity(identity(&client))).await.unwrap();
    status(tls()).await.unwrap_err();
    status(tls().identity(identity(&server))).await.unwrap_err();
    node.stop().await;
}
