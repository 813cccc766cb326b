//! Whose certificate is shown: a node's certificate carries its name, as a DNS name among its subject alternative names.
//!
//! An authority vouches for all nodes alike. So that no node passes for another, who calls must show the certificate of the
//! node that it says it is, and who is called that of the node that was meant. Both are checked like the name of any
//! server under TLS: who is called by TLS itself, at the end of the handshake; who calls with each call.

use mortise_core::group::NodeId;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{self, CertificateError};
use tonic::transport::ClientTlsConfig;

/// What stands for a node's number in [`CertificateNames`].
const NODE: &str = "{node}";

/// How peers are called under TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The node's own certificate, and the authorities that vouch for peers.
    pub client: ClientTlsConfig,
    /// `None`: any certificate that an authority vouches for may speak for any node, and who is called must have a
    /// certificate for the host that is dialled.
    pub names: Option<CertificateNames>,
}

/// The names of nodes in certificates. Every node of a cluster has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames(String);

/// Why a pattern gives no names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNames {
    /// All nodes would have the same name.
    #[error("it must contain {NODE}, where a node's number goes")]
    NoNode,
    /// The names would be none of DNS.
    #[error("{0} is no DNS name")]
    NoDnsName(String),
}

impl CertificateNames {
    /// The names that `pattern` gives when the node's number is put where it says `{node}`, such as
    /// `node-{node}.mortise`.
    ///
    /// # Errors
    /// See [`BadNames`].
    pub fn new(pattern: impl Into<String>) -> Result<Self, BadNames> {
        let names = Self(pattern.into());
        if !names.0.contains(NODE) {
            return Err(BadNames::NoNode);
        }
        // The longest number that there can be.
        let longest = NodeId(u64::MAX);
        match names.server_name(longest) {
            Ok(ServerName::DnsName(_)) => Ok(names),
            _ => Err(BadNames::NoDnsName(names.of(longest))),
        }
    }

    /// The name of a node.
    pub fn of(&self, node: NodeId) -> String {
        self.0.replace(NODE, &node.to_string())
    }

    fn server_name(&self, node: NodeId) -> Result<ServerName<'static>, InvalidDnsNameError> {
        ServerName::try_from(self.of(node))
    }

    /// Whether this is the certificate of `node`. Who signed it is not looked at.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self, node: NodeId, certificate: &CertificateDer<'_>) -> Result<(), String> {
        let name = self.server_name(node).map_err(|_| format!("{} is no DNS name", self.of(node)))?;
        let parsed = ParsedCertificate::try_from(certificate).map_err(|error| error.to_string())?;
        verify_server_name(&parsed, &name).map_err(|error| error.to_string())
    }
}

/// Whether a connection failed because who was called showed the certificate of somebody else.
pub(crate) fn is_of_another(error: &(dyn std::error::Error + 'static)) -> bool {
    let tls = |error: &(dyn std::error::Error + 'static)| {
        let inner = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        let found = match inner {
            Some(inner) => inner.downcast_ref::<rustls::Error>(),
            None => error.downcast_ref::<rustls::Error>(),
        };
        matches!(
            found,
            Some(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            ))
        )
    };
    std::iter::successors(Some(error), |error| error.source()).any(tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_nodes_number_and_are_of_dns() {
        let names = CertificateNames::new("node-{node}.my_cluster").unwrap();
        assert_eq!(names.of(NodeId(12)), "node-12.my_cluster");
        assert_eq!(CertificateNames::new("node.example.org"), Err(BadNames::NoNode));
        for pattern in
            ["node {node}", "-{node}", "{node}", "10.0.0.{node}", &format!("{{node}}.{}", "x".repeat(64))]
        {
            let refused = CertificateNames::new(pattern);
            assert!(matches!(refused, Err(BadNames::NoDnsName(_))), "{pattern}: {refused:?}");
        }
    }

    #[test]
    fn a_certificate_is_of_the_nodes_that_it_names() {
        let names = CertificateNames::new("node-{node}.mortise").unwrap();
        let made = rcgen::generate_simple_self_signed(["node-3.mortise".into(), "10.0.0.7".into()]).unwrap();
        let certificate = made.cert.der();
        names.check(NodeId(3), certificate).unwrap();
        for node in [1, 30] {
            let why = names.check(NodeId(node), certificate).unwrap_err();
            assert!(why.contains(&format!("node-{node}.mortise")), "{why}");
        }
        assert!(names.check(NodeId(3), &CertificateDer::from(vec![1, 2, 3])).is_err());
    }
}
