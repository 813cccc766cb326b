//! How to reach etcd.

use std::fmt;
use std::time::Duration;

use crate::error::CoordinationError;

/// Most endpoints: an etcd has seven members at most, and a mistake should not take minutes to be found.
const ENDPOINTS_MAX: usize = 16;

/// How to reach etcd, and as whom.
#[derive(Clone)]
pub struct EtcdConfig {
    /// URLs of members, 1 to 16, each `http://host:port`, or each `https://host:port`.
    pub endpoints: Vec<String>,
    /// Certificates, for `https://` endpoints; without it, the system's authorities are not trusted either.
    pub tls: Option<Tls>,
    /// User and password.
    pub user: Option<(String, String)>,
    /// Longest time for one attempt of a request, at one endpoint. Default 1 s, minimum 50 ms.
    pub attempt_timeout: Duration,
}

/// Certificates, in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authorities that vouch for etcd.
    pub ca_pem: Vec<u8>,
    /// This node's certificate and its key, where etcd asks for one.
    pub client_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in etcd's certificate, where it is not the endpoint's host.
    pub server_name: Option<String>,
}

impl fmt::Debug for EtcdConfig {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("tls", &self.tls.is_some())
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}

impl EtcdConfig {
    /// The defaults, without TLS or a user.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Self { endpoints, tls: None, user: None, attempt_timeout: Duration::from_secs(1) }
    }

    pub(super) fn check(&self) -> Result<(), CoordinationError> {
        let fail = |why: String| Err(CoordinationError::Config(why));
        if self.endpoints.is_empty() || self.endpoints.len() > ENDPOINTS_MAX {
            return fail(format!("{} etcd endpoints are not 1 to {ENDPOINTS_MAX}", self.endpoints.len()));
        }
        let scheme = if self.tls.is_some() { "https://" } else { "http://" };
        for endpoint in &self.endpoints {
            let host = endpoint.strip_prefix(scheme);
            let is_whole = host.is_some_and(|host| {
                host.rsplit_once(':').is_some_and(|(host, port)| {
                    !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
                })
            });
            if !is_whole {
                let with = if self.tls.is_some() { "with" } else { "without" };
                return fail(format!(
                    "etcd endpoint {endpoint:?} is not {scheme}HOST:PORT ({with} certificates)"
                ));
            }
        }
        if self.attempt_timeout < Duration::from_millis(50) {
            return fail(format!("attempt_timeout of {:?} is less than 50 ms", self.attempt_timeout));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_endpoints_are_named() {
        let wrong =
            |endpoints: &[&str]| EtcdConfig::new(endpoints.iter().copied()).check().unwrap_err().to_string();
        assert!(wrong(&[]).contains("0 etcd endpoints"));
        for endpoint in
            ["127.0.0.1:2379", "http://127.0.0.1", "http://:1", "http://a:0", "http://a:1/x", "ftp://a:1"]
        {
            assert!(wrong(&["http://a:2379", endpoint]).contains(&format!("{endpoint:?}")), "{endpoint}");
        }
        assert!(wrong(&["https://a:2379"]).contains("without certificates"));
        assert_eq!(EtcdConfig::new(["http://[::1]:2379"]).check(), Ok(()));
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut config = EtcdConfig::new(["http://a:1"]);
        config.user = Some(("ann".into(), "hidden".into()));
        let text = format!("{config:?}");
        assert!(text.contains("ann") && !text.contains("hidden"), "{text}");
    }
}
