//! Links under mutual TLS, which the listener demands.

use mortise_peer::{LinkState, PeerError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::node::{Node, quick};

/// A certificate authority of one cluster.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap())
    }

    fn certificate(&self) -> Certificate {
        Certificate::from_pem(self.0.pem())
    }

    /// A node's own certificate.
    fn identity(&self) -> Identity {
        let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_string()]).unwrap();
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &self.0).unwrap();
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    }

    /// What a node dials with, and what it listens with.
    fn node(&self) -> (ClientTlsConfig, ServerTlsConfig) {
        let client = ClientTlsConfig::new().ca_certificate(self.certificate()).identity(self.identity());
        let server = ServerTlsConfig::new().identity(self.identity()).client_ca_root(self.certificate());
        (client, server)
    }
}

#[tokio::test]
async fn members_with_certificates_get_in_and_nobody_else() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let one = Node::start_under(1, quick(), Some(ours.node())).await;
    let two = Node::start_under(2, quick(), Some(ours.node())).await;
    let stranger = Node::start_under(3, quick(), Some(theirs.node())).await;
    let (_, server) = ours.node();
    let bare = ClientTlsConfig::new().ca_certificate(ours.certificate());
    let without = Node::start_under(4, quick(), Some((bare, server))).await;
    two.knows(&[(&one, one.at()), (&stranger, stranger.at()), (&without, without.at())]);
    for node in [&one, &stranger, &without] {
        node.knows(&[(&two, two.at())]);
    }
    one.touch(&two).await.unwrap();
    assert_eq!(one.link(&two).state, LinkState::Connected);
    for node in [&stranger, &without] {
        assert!(matches!(node.touch(&two).await, Err(PeerError::Broken)));
    }
}
