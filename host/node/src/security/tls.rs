//! TLS of a listener.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mortise_core::group::NodeId;
use mortise_peer::{CertificateNames, Tls};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::config::ListenerSettings;

/// What a listener speaks: gRPC over HTTP/2, and HTTP/1.1 for whoever fetches metrics with an old client.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a listener has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the kind that is wanted.
    #[error("{field}: read {path} as PEM: {source}", path = path.display())]
    Pem {
        /// The setting.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file cannot be read.
    #[error("{field}: read {path}: {source}", path = path.display())]
    Read {
        /// The setting.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file without certificates.
    #[error("{field}: {path} holds no certificate", path = path.display())]
    Empty {
        /// The setting.
        field: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not fit, or are of a kind that is not supported.
    #[error("{field}: use {path}: {source}", path = path.display())]
    Unusable {
        /// The setting.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// A node's certificate is not of this node.
    #[error(
        "tls_cert: {path} is not the certificate of this node: {why}. Have one made with the DNS name {name}, or set \
         cluster.peer_certificate_name to the names that the nodes' certificates have",
        path = path.display()
    )]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// What it should be called.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The authorities for clients' certificates cannot be used.
    #[error("tls_client_ca: use {path}: {source}", path = path.display())]
    ClientAuthority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
}

/// What accepts TLS connections for a listener; `None` where it has no certificate.
///
/// # Errors
/// Files that cannot be read or used, by name.
pub fn acceptor(listener: &ListenerSettings) -> Result<Option<TlsAcceptor>, TlsError> {
    let (Some(cert), Some(key)) = (&listener.tls_cert, &listener.tls_key) else { return Ok(None) };
    let chain = certificates("tls_cert", cert)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Pem {
        field: "tls_key",
        path: key.clone(),
        source,
    })?;
    let provider = Arc::new(ring::default_provider());
    let unusable = |source| TlsError::Unusable { field: "tls_cert", path: cert.clone(), source };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &listener.tls_client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities(path)?.into(), provider)
                .build()
                .map_err(|source| TlsError::ClientAuthority { path: path.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(unusable)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// How peers are called under TLS; `None` where their listener has no certificate. The node shows the same certificate as
/// there, and trusts the same authorities. With `names`, certificates name their nodes; this one is `node`.
///
/// # Errors
/// Files that cannot be read, and a certificate that is not this node's.
pub fn peer_tls(
    listener: &ListenerSettings,
    names: Option<CertificateNames>,
    node: NodeId,
) -> Result<Option<Tls>, TlsError> {
    let (Some(cert), Some(key)) = (&listener.tls_cert, &listener.tls_key) else { return Ok(None) };
    let read = |field, path: &Path| {
        std::fs::read(path).map_err(|source| TlsError::Read { field, path: path.into(), source })
    };
    let identity = Identity::from_pem(read("tls_cert", cert)?, read("tls_key", key)?);
    let authorities = listener.tls_client_ca.as_ref().unwrap_or(cert);
    let authorities = Certificate::from_pem(read("tls_client_ca", authorities)?);
    if let Some(names) = &names {
        let own = certificates("tls_cert", cert)?;
        let other = |why| TlsError::OtherNode { path: cert.clone(), name: names.of(node), why };
        own.first().map_or(Ok(()), |own| names.check(node, own)).map_err(other)?;
    }
    let client = ClientTlsConfig::new().identity(identity).ca_certificate(authorities);
    Ok(Some(Tls { client, names }))
}

fn certificates(field: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { field, path: path.into(), source };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(pem)?.collect();
    let certificates = certificates.map_err(pem)?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { field, path: path.into() });
    }
    Ok(certificates)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let field = "tls_client_ca";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(field, path)? {
        roots.add(certificate).map_err(|source| TlsError::Unusable { field, path: path.into(), source })?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        folder: tempfile::TempDir,
        listener: ListenerSettings,
    }

    fn files() -> Files {
        files_of("localhost")
    }

    fn files_of(name: &str) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed([name.into()]).unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let listener =
            ListenerSettings { tls_cert: Some(cert), tls_key: Some(key), ..ListenerSettings::default() };
        Files { folder, listener }
    }

    fn error(listener: &ListenerSettings) -> String {
        acceptor(listener).err().unwrap().to_string()
    }

    #[test]
    fn a_certificate_with_its_key_is_accepted() {
        let mut files = files();
        assert!(acceptor(&files.listener).unwrap().is_some());
        files.listener.tls_client_ca = files.listener.tls_cert.clone();
        assert!(acceptor(&files.listener).unwrap().is_some());
        assert!(acceptor(&ListenerSettings::default()).unwrap().is_none());
    }

    #[test]
    fn a_node_does_not_start_with_another_nodes_certificate() {
        let mut files = files_of("node-3.mortise");
        files.listener.tls_client_ca = files.listener.tls_cert.clone();
        let names = CertificateNames::new("node-{node}.mortise").unwrap();
        let tls = |node| peer_tls(&files.listener, Some(names.clone()), NodeId(node));
        assert_eq!(tls(3).unwrap().unwrap().names, Some(names.clone()));
        let refused = tls(4).unwrap_err().to_string();
        assert!(refused.contains("cert.pem") && refused.contains("the DNS name node-4.mortise"), "{refused}");
    }

    #[test]
    fn bad_files_are_named() {
        let mut files = files();
        let other = super::tests::files();
        files.listener.tls_key = other.listener.tls_key.clone();
        assert!(error(&files.listener).starts_with("tls_cert: use "), "a key of another certificate");
        files.listener.tls_key = files.listener.tls_cert.clone();
        assert!(error(&files.listener).starts_with("tls_key: read "), "no key in the file");
        files.listener.tls_key = Some("/no/such/key.pem".into());
        assert!(error(&files.listener).contains("/no/such/key.pem"));
        let empty = files.folder.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        let listener = ListenerSettings { tls_client_ca: Some(empty), ..other.listener.clone() };
        assert!(error(&listener).contains("empty.pem holds no certificate"));
    }
}
