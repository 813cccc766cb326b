//! How the node reaches etcd, from the section [cluster].

use std::path::Path;

use mortise_coordination::{EtcdConfig, Tls};

use super::{ClusterSettings, ConfigError};

impl ClusterSettings {
    /// How to reach etcd. Reads the files that the section names.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn etcd(&self) -> Result<EtcdConfig, ConfigError> {
        let mut etcd = EtcdConfig::new(self.etcd.clone());
        if let Some(ca) = &self.etcd_ca {
            let pair = self.etcd_cert.as_deref().zip(self.etcd_key.as_deref());
            let client_pem = pair.map(|(cert, key)| Ok::<_, ConfigError>((read(cert)?, read(key)?)));
            etcd.tls =
                Some(Tls { ca_pem: read(ca)?, client_pem: client_pem.transpose()?, server_name: None });
        }
        if let Some((user, path)) = self.etcd_user.as_ref().zip(self.etcd_password_file.as_deref()) {
            let password = super::read(path)?;
            etcd.user = Some((user.clone(), password.lines().next().unwrap_or_default().to_owned()));
        }
        Ok(etcd)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read { path: path.into(), source })
}
