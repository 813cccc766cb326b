//! How nodes are called in their certificates.

use mortise_peer::CertificateNames;

use super::{Config, ConfigError, invalid};

impl Config {
    /// The names of nodes in their certificates; `None` where peers show none, or where any will do.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`]: `cluster.peer_certificate_name` gives no DNS names.
    pub fn certificate_names(&self) -> Result<Option<CertificateNames>, ConfigError> {
        let pattern = &self.cluster.peer_certificate_name;
        if self.peer.tls_client_ca.is_none() || pattern.is_empty() {
            return Ok(None);
        }
        let names = CertificateNames::new(pattern.replace("{cluster}", &self.cluster.name));
        let bad = |error| {
            let problem =
                format!("{error}; \"node-{{node}}.{{cluster}}\" would do, if cluster.name is short");
            invalid("cluster.peer_certificate_name", pattern, problem)
        };
        names.map(Some).map_err(bad)
    }
}
