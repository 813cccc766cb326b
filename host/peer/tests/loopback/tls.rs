//! Links under mutual TLS, which the listener demands, with certificates that name their nodes.

use mortise_core::group::NodeId;
use mortise_peer::{CertificateNames, Count, LinkState, PeerError, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::node::{Node, eventually, quick};

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
    fn identity(&self, node: u64) -> Identity {
        let names = vec!["127.0.0.1".to_string(), names().of(NodeId(node))];
        let mut leaf = CertificateParams::new(names).unwrap();
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &self.0).unwrap();
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    }

    /// What a node dials with, under the certificate of the first node, and what it listens with, under that of the other.
    fn dials_and_listens(&self, dials: u64, listens: u64) -> (Tls, ServerTlsConfig) {
        let identity = self.identity(dials);
        let client = ClientTlsConfig::new().ca_certificate(self.certificate()).identity(identity);
        let server =
            ServerTlsConfig::new().identity(self.identity(listens)).client_ca_root(self.certificate());
        (Tls { client, names: Some(names()) }, server)
    }

    /// The same under its own.
    fn node(&self, node: u64) -> (Tls, ServerTlsConfig) {
        self.dials_and_listens(node, node)
    }
}

fn names() -> CertificateNames {
    CertificateNames::new("node-{node}.test").unwrap()
}

fn introduce(one: &Node, two: &Node) {
    one.knows(&[(two, two.at())]);
    two.knows(&[(one, one.at())]);
}

#[tokio::test]
async fn members_with_certificates_get_in_and_nobody_else() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let one = Node::start_under(1, quick(), Some(ours.node(1))).await;
    let two = Node::start_under(2, quick(), Some(ours.node(2))).await;
    let stranger = Node::start_under(3, quick(), Some(theirs.node(3))).await;
    let (tls, server) = ours.node(4);
    let bare = Tls { client: ClientTlsConfig::new().ca_certificate(ours.certificate()), ..tls };
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
    assert_eq!(two.counted(Count::OtherCertificate), 0);
}

#[tokio::test]
async fn a_node_does_not_speak_under_another_nodes_certificate() {
    let ours = Authority::new();
    let one = Node::start_under(1, quick(), Some(ours.node(1))).await;
    // It says that it is node 2, a member, and has the certificate of node 3.
    let two = Node::start_under(2, quick(), Some(ours.dials_and_listens(3, 2))).await;
    introduce(&one, &two);
    assert!(matches!(two.touch(&one).await, Err(PeerError::Broken)));
    eventually("refusals are counted", || one.counted(Count::OtherCertificate) >= 2).await;
    let told = two.link(&one).last_error;
    assert!(told.contains("the certificate of node 2") && told.contains("node-2.test"), "{told}");
    // The other way round all is as it should be.
    one.touch(&two).await.unwrap();
    assert_eq!(two.counted(Count::OtherCertificate), 0);
}

#[tokio::test]
async fn a_node_is_not_called_that_has_another_nodes_certificate() {
    let ours = Authority::new();
    let one = Node::start_under(1, quick(), Some(ours.node(1))).await;
    // Whoever is at the address of node 2 has the certificate of node 3.
    let two = Node::start_under(2, quick(), Some(ours.dials_and_listens(2, 3))).await;
    introduce(&one, &two);
    assert!(matches!(one.touch(&two).await, Err(PeerError::Broken)));
    eventually("dials are counted", || one.counted(Count::OtherCertificate) >= 2).await;
    let told = one.link(&two).last_error;
    assert!(told.contains("node-2.test"), "{told}");
    two.touch(&one).await.unwrap();
}

#[tokio::test]
async fn without_names_any_certificate_of_the_authority_will_do() {
    let ours = Authority::new();
    let nameless = |(tls, server)| (Tls { names: None, ..tls }, server);
    let one = Node::start_under(1, quick(), Some(nameless(ours.node(7)))).await;
    let two = Node::start_under(2, quick(), Some(nameless(ours.node(8)))).await;
    introduce(&one, &two);
    one.touch(&two).await.unwrap();
    two.touch(&one).await.unwrap();
}
