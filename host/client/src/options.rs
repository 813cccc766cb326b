//! How to reach a node, or the nodes of a cluster.

use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::error::{ClientError, ErrorKind};

/// HTTP/2 flow-control window of a stream, in bytes: a whole batch of answers fits while the last is still read.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Window of a connection, in bytes: more than one stream's, so that a full one does not hold up calls beside it.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How often a silent connection is pinged, and how long the ping may take: a node that vanished without a word is
/// noticed after their sum, by calls that may rightly take long. Shorter than the default `timeout`, so that time is
/// left to ask another node.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Most addresses that are configured: more than any group has members.
pub const ENDPOINTS_MAX: usize = 32;
/// A shorter `silence_timeout` would take a slow disk for a node that hangs.
pub const SILENCE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Where nodes are and how to talk to them.
///
/// One address is enough: a node that does not lead says who does. Several, so that a client finds a cluster of which
/// a node is down. All of a list have the same scheme.
#[derive(Clone)]
pub struct Options {
    /// Where nodes serve data. Default `http://127.0.0.1:7400`; `https://` for TLS. From 1 to [`ENDPOINTS_MAX`].
    pub endpoints: Vec<String>,
    /// Where they serve administration. Default `http://127.0.0.1:7401`. From 1 to [`ENDPOINTS_MAX`].
    pub admin_endpoints: Vec<String>,
    /// The bearer token that says who asks. Default: none.
    pub token: Option<String>,
    /// Certificates of the authorities that vouch for the nodes, in PEM. Needed with `https://`.
    pub ca_pem: Option<Vec<u8>>,
    /// This client's certificate and key, in PEM, where the node asks for one. Default: none.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that the nodes' certificates must have. Default: the host of the address.
    pub server_name: Option<String>,
    /// How long making a connection may take. Default 2 s: time for one lost packet, and then for another node.
    pub connect_timeout: Duration,
    /// How long a node may say nothing while writes are in flight, or a session is to be opened, before another one is
    /// tried. Default 3 s; at least [`SILENCE_TIMEOUT_MIN`].
    pub silence_timeout: Duration,
    /// How long a unary call may take, retries included. Default 10 s.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:7400".into()],
            admin_endpoints: vec!["http://127.0.0.1:7401".into()],
            token: None,
            ca_pem: None,
            identity_pem: None,
            server_name: None,
            connect_timeout: Duration::from_secs(2),
            silence_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// The defaults, but for the address of data.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoints: vec![endpoint.into()], ..Self::default() }
    }

    /// What does not depend on an address.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`].
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        if self.silence_timeout < SILENCE_TIMEOUT_MIN {
            let (given, min) = (self.silence_timeout, SILENCE_TIMEOUT_MIN);
            return Err(invalid(format!("the silence timeout is {given:?}; the least is {min:?}")));
        }
        Ok(())
    }

    /// Where `uri` is, with everything else said here.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: no address, or TLS material that does not fit together.
    pub(crate) fn endpoint(&self, uri: &str) -> Result<Endpoint, ClientError> {
        let invalid = |problem: String| invalid(format!("endpoint {uri:?}: {problem}"));
        let tls = uri.starts_with("https://");
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

/// A list of addresses as people write it: separated by commas.
///
/// # Errors
/// [`ErrorKind::Invalid`] where it is none that [`Options`] takes; the message names the part.
pub fn parse_endpoints(text: &str) -> Result<Vec<String>, ClientError> {
    let endpoints: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    check_endpoints(&endpoints)?;
    Ok(endpoints)
}

/// Whether the addresses fit together.
pub(crate) fn check_endpoints(endpoints: &[String]) -> Result<(), ClientError> {
    let Some(first) = endpoints.first() else {
        return Err(invalid("no endpoint is given".into()));
    };
    if endpoints.len() > ENDPOINTS_MAX {
        return Err(invalid(format!("{} endpoints are given; the most is {ENDPOINTS_MAX}", endpoints.len())));
    }
    for (position, uri) in endpoints.iter().enumerate() {
        let problem = match scheme(uri) {
            None if uri.is_empty() => "it is empty: is there a comma too many?",
            None => "it must begin with http:// or https://",
            found if found != scheme(first) => "all endpoints must have the same scheme, http:// or https://",
            _ if endpoints.iter().take(position).any(|other| other == uri) => "it is given twice",
            _ => continue,
        };
        return Err(invalid(format!("endpoint {uri:?}: {problem}")));
    }
    Ok(())
}

/// `http://` or `https://`, where the address begins with one of them.
pub(crate) fn scheme(uri: &str) -> Option<&'static str> {
    ["http://", "https://"].into_iter().find(|scheme| uri.starts_with(scheme))
}

fn invalid(problem: String) -> ClientError {
    ClientError::new(ErrorKind::Invalid, problem)
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
            .field("endpoints", &self.endpoints)
            .field("admin_endpoints", &self.admin_endpoints)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("ca", &self.ca_pem.is_some())
            .field("identity", &self.identity_pem.is_some())
            .field("server_name", &self.server_name)
            .field("connect_timeout", &self.connect_timeout)
            .field("silence_timeout", &self.silence_timeout)
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
        for (uri, reason) in [("https://127.0.0.1:7400", "needs the certificate"), ("http://", "endpoint")] {
            let error = options.endpoint(uri).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains(reason), "{uri}: {error}");
        }
        assert!(options.endpoint("http://127.0.0.1:7400").is_ok());
        let options = Options { ca_pem: Some(Vec::new()), ..Options::default() };
        assert!(options.endpoint("http://127.0.0.1:7400").is_err());
    }

    #[test]
    fn lists_of_addresses_are_taken_or_refused_with_a_reason() {
        let endpoints = parse_endpoints("http://a:1, http://b:2,http://[::1]:3").unwrap();
        assert_eq!(endpoints, ["http://a:1", "http://b:2", "http://[::1]:3"]);
        assert_eq!(parse_endpoints("https://a").unwrap(), ["https://a"]);
        let many = |count: usize| (0..count).map(|n| format!("http://a:{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(parse_endpoints(&many(ENDPOINTS_MAX)).unwrap().len(), ENDPOINTS_MAX);
        for (text, reason) in [
            ("", "it is empty"),
            ("http://a:1,", "a comma too many"),
            ("127.0.0.1:7400", "must begin with http"),
            ("http://a:1,b:2", "\"b:2\": it must begin with http"),
            ("http://a:1,https://b:2", "the same scheme"),
            ("http://a:1,http://b:2,http://a:1", "given twice"),
            (many(ENDPOINTS_MAX + 1).as_str(), "the most is 32"),
        ] {
            let error = parse_endpoints(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains(reason), "{text:?}: {error}");
        }
        assert!(check_endpoints(&[]).is_err());
        let hasty = Options { silence_timeout: Duration::from_millis(1), ..Options::default() };
        assert!(hasty.check().is_err() && Options::default().check().is_ok());
    }

    #[test]
    fn secrets_stay_out_of_debug() {
        let options = Options { token: Some("mrt_secret".into()), ..Options::default() };
        assert!(!format!("{options:?}").contains("mrt_secret"));
    }
}
