//! How to reach a node.

use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::error::{ClientError, ErrorKind};

/// HTTP/2 flow-control window of a stream, in bytes: a whole batch of answers fits while the last is still read.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Window of a connection, in bytes: more than one stream's, so that a full one does not hold up calls beside it.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How often a silent connection is pinged, and how long the ping may take: a node that vanished without a word is
/// noticed after their sum.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a node is and how to talk to it.
#[derive(Clone)]
pub struct Options {
    /// Where it serves data. Default `http://127.0.0.1:7400`; `https://` for TLS.
    pub endpoint: String,
    /// Where it serves administration. Default `http://127.0.0.1:7401`.
    pub admin_endpoint: String,
    /// The bearer token that says who asks. Default: none.
    pub token: Option<String>,
    /// Certificates of the authorities that vouch for the node, in PEM. Needed with `https://`.
    pub ca_pem: Option<Vec<u8>>,
    /// This client's certificate and key, in PEM, where the node asks for one. Default: none.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that the node's certificate must have. Default: the host of the endpoint.
    pub server_name: Option<String>,
    /// How long making a connection may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a unary call may take, retries included. Default 10 s.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:7400".into(),
            admin_endpoint: "http://127.0.0.1:7401".into(),
            token: None,
            ca_pem: None,
            identity_pem: None,
            server_name: None,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// The defaults, but for the address of data.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), ..Self::default() }
    }

    /// Where `uri` is, with everything else said here.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: no address, or TLS material that does not fit together.
    pub(crate) fn endpoint(&self, uri: &str) -> Result<Endpoint, ClientError> {
        let invalid =
            |problem: String| ClientError::new(ErrorKind::Invalid, format!("endpoint {uri:?}: {problem}"));
        let tls = uri.starts_with("https://");
        if !tls && !uri.starts_with("http://") {
            return Err(invalid("it must begin with http:// or https://".into()));
        }
        if !tls && self.ca_pem.is_some() {
            return Err(invalid("a certificate authority needs https://".into()));
        }
        let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(|error| invalid(describe(&error)))?;
        let endpoint = endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        if !tls {
            return Ok(endpoint);
        }
        let Some(ca) = &self.ca_pem else {
            return Err(invalid("https:// needs the certificate of an authority".into()));
        };
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        if let Some((certificate, key)) = &self.identity_pem {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        endpoint.tls_config(config).map_err(|error| invalid(describe(&error)))
    }
}

/// An error with its causes: tonic's own words alone say "transport error".
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl std::fmt::Debug for Options {
    /// Without the secrets, so that they reach no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("endpoint", &self.endpoint)
            .field("admin_endpoint", &self.admin_endpoint)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("ca", &self.ca_pem.is_some())
            .field("identity", &self.identity_pem.is_some())
            .field("server_name", &self.server_name)
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_work_are_refused_with_a_reason() {
        let options = Options::default();
        for (uri, reason) in [
            ("127.0.0.1:7400", "must begin with http"),
            ("https://127.0.0.1:7400", "needs the certificate"),
            ("http://", "endpoint"),
        ] {
            let error = options.endpoint(uri).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains(reason), "{uri}: {error}");
        }
        assert!(options.endpoint("http://127.0.0.1:7400").is_ok());
        let options = Options { ca_pem: Some(Vec::new()), ..Options::default() };
        assert!(options.endpoint("http://127.0.0.1:7400").is_err());
    }

    #[test]
    fn secrets_stay_out_of_debug() {
        let options = Options { token: Some("mrt_secret".into()), ..Options::default() };
        assert!(!format!("{options:?}").contains("mrt_secret"));
    }
}
