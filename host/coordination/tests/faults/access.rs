//! Who may talk to etcd: TLS, users, and endpoints that are none.

use std::path::Path;

use mortise_coordination::{Config, Coordination, CoordinationError, Coordinator, Etcd, EtcdConfig, Tls};
use mortise_etcd_kit::{Release, Setup, TestEtcd};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use crate::kit::{create, etcd, observer};

/// What a start with these settings says within its time.
async fn ready(config: EtcdConfig) -> Result<(), CoordinationError> {
    Coordination::start(Config::new("faults"), None, Etcd::new(config)?)?.ready().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_are_none_are_named() {
    let error = ready(EtcdConfig::new(["http://127.0.0.1:1"])).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CoordinationError::Unavailable { .. }), "{error:?}");
    assert!(text.contains("http://127.0.0.1:1") && text.contains("refused"), "{text}");

    // Somebody who speaks another language.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let error = ready(EtcdConfig::new([address.clone()])).await.unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");

    // One of several is enough.
    let etcd = etcd(Release::V3_5, 1);
    let endpoints = ["http://127.0.0.1:1".to_owned(), address, etcd.endpoints().swap_remove(0)];
    ready(EtcdConfig::new(endpoints)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_need_their_password_and_their_role() {
    for release in [Release::V3_4, Release::V3_5] {
        let etcd = etcd(release, 1);
        create(&observer(&etcd)).await;
        for command in [
            &["user", "add", "root:secret"][..],
            &["user", "grant-role", "root", "root"],
            &["user", "add", "node:tulip"],
            &["user", "add", "stranger:tulip"],
            &["role", "add", "faults"],
            &["role", "grant-permission", "--prefix=true", "faults", "readwrite", "/faults/"],
            &["user", "grant-role", "node", "faults"],
            &["auth", "enable"],
        ] {
            etcd.ctl(command).unwrap();
        }
        let user = |name: &str, word: &str| {
            let mut config = EtcdConfig::new(etcd.endpoints());
            config.user = Some((name.into(), word.into()));
            config
        };
        ready(user("node", "tulip")).await.unwrap();
        for config in [user("node", "wrong"), user("stranger", "tulip"), EtcdConfig::new(etcd.endpoints())] {
            let error = ready(config.clone()).await.unwrap_err();
            let named = matches!(&error, CoordinationError::Denied { endpoint, .. } if *endpoint == etcd.endpoints()[0]);
            assert!(named, "{config:?}: {error:?}");
            assert!(!error.to_string().contains("tulip"), "{error}");
        }
        // A session needs no more than the role.
        let node =
            Coordination::start(Config::new("faults"), None, Etcd::new(user("node", "tulip")).unwrap())
                .unwrap();
        let node: crate::kit::Node = std::sync::Arc::new(node);
        node.open_session(mortise_core::group::NodeId(1), mortise_core::group::BootId(1)).unwrap();
        crate::kit::live(&node).await;
    }
}

/// An authority, and a certificate of it for loopback; both with keys, in PEM.
struct Certificates {
    ca: String,
    certificate: String,
    key: String,
}

fn certificates(name: &str) -> Certificates {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, name);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let mut leaf = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "node");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &ca).unwrap();
    Certificates { ca: ca.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
}

fn tls_etcd(folder: &Path, ours: &Certificates) -> TestEtcd {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let arguments = [
        ("--cert-file", file("cert.pem", &ours.certificate)),
        ("--key-file", file("key.pem", &ours.key)),
        ("--trusted-ca-file", file("ca.pem", &ours.ca)),
    ];
    let mut setup = Setup::new(Release::V3_5, 1);
    setup.tls = true;
    setup.arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    setup.arguments.push("--client-cert-auth".into());
    TestEtcd::start(setup).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_wants_the_right_authority_and_a_certificate() {
    let (ours, theirs) = (certificates("ours"), certificates("theirs"));
    let folder = tempfile::tempdir().unwrap();
    let etcd = tls_etcd(folder.path(), &ours);
    let with = |ca: &Certificates, own: Option<&Certificates>| {
        let mut config = EtcdConfig::new(etcd.endpoints());
        config.tls = Some(Tls {
            ca_pem: ca.ca.clone().into_bytes(),
            client_pem: own.map(|own| (own.certificate.clone().into_bytes(), own.key.clone().into_bytes())),
            server_name: None,
        });
        config
    };
    ready(with(&ours, Some(&ours))).await.unwrap();
    for config in [with(&theirs, Some(&ours)), with(&ours, None), with(&ours, Some(&theirs))] {
        let error = ready(config).await.unwrap_err();
        assert!(error.to_string().contains(&etcd.endpoints()[0]), "{error}");
    }
}
