//! The node's configuration: a TOML file, read and checked once, at start.
//!
//! Every setting is declared in `sections.rs` with its meaning, unit, default and bounds, and `mortise serve
//! --print-config` prints all of that with the values in force. Unknown names are errors, so that a misspelt setting
//! never silently keeps its default.

mod certificates;
mod etcd;
mod print;
mod sections;
mod settings;
mod token;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use sections::{
    ClusterSettings, Limits, ListenerSettings, LogFormat, LoggingSettings, NodeSettings, StorageSettings,
};
pub use settings::{Section, Setting};
pub use token::{ALL_TENANTS, Expiry, Scope, TokenSettings};

/// Where data is served by default.
pub const DATA_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7400));
/// Where administration is served by default.
pub const ADMIN_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7401));
/// Where peers are served by default.
pub const PEER_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7402));
/// Most tokens: each call compares its token's hash with all of them.
pub const TOKENS_MAX: usize = 1_000;
/// What a message holds beside its command: the tenant's name and a few numbers.
const MESSAGE_FRAME_BYTES: usize = 1 << 10;

/// All settings of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node itself.
    pub node: NodeSettings,
    /// The listener for data.
    pub data: ListenerSettings,
    /// The listener for administration and metrics.
    pub admin: ListenerSettings,
    /// The cluster.
    pub cluster: ClusterSettings,
    /// The listener for the other nodes of the cluster.
    pub peer: ListenerSettings,
    /// Bounds.
    pub limits: Limits,
    /// Log, snapshots, disk.
    pub storage: StorageSettings,
    /// Log lines.
    pub logging: LoggingSettings,
    /// Tokens, one table each.
    #[serde(rename = "token")]
    pub tokens: Vec<TokenSettings>,
    /// The rule of the protocol that is put out of force: for tests of those who have to notice. No file can say it.
    #[cfg(feature = "mutants")]
    #[serde(skip)]
    pub mutant: Option<mortise_core::replica::Mutant>,
}

/// Why a configuration cannot be used. Every message names the field, its value and what would do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown name, or a value of a wrong type. The source says where in the file.
    #[error("{origin}: {source}")]
    Syntax {
        /// The file.
        origin: String,
        /// What, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A number out of its bounds.
    #[error("{field} is {value}, but must be from {min} to {max}")]
    OutOfBounds {
        /// The setting.
        field: String,
        /// Its value.
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// A value that cannot be honoured.
    #[error("{field} is {value:?}: {problem}")]
    Invalid {
        /// The setting.
        field: String,
        /// Its value.
        value: String,
        /// What is wrong, and what would do.
        problem: String,
    },
    /// An address that others can reach, unprotected.
    #[error(
        "{field} is {address}, which other machines can reach, without {missing}: \
         configure it, listen on loopback, or accept the risk with node.insecure or --insecure"
    )]
    Exposed {
        /// The setting.
        field: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What is missing: TLS, tokens or both.
        missing: &'static str,
    },
}

impl Config {
    /// Reads a file, without checking it.
    ///
    /// # Errors
    /// [`ConfigError::Read`] and [`ConfigError::Syntax`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, &path.display().to_string())
    }

    /// Reads a text without checking it. `origin` stands in errors.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigError> {
        parse(text, origin)
    }

    /// Checks every value, and the tokens file.
    ///
    /// # Errors
    /// The first that cannot be honoured.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.node.check_bounds("node")?;
        self.data.check_bounds("data")?;
        self.admin.check_bounds("admin")?;
        self.cluster.check_bounds("cluster")?;
        self.peer.check_bounds("peer")?;
        self.limits.check_bounds("limits")?;
        self.storage.check_bounds("storage")?;
        check_name("node.name", &self.node.name)?;
        check_cluster(&self.cluster)?;
        crate::logging::filter(&self.logging)?;
        let room = self.limits.message_bytes_max - MESSAGE_FRAME_BYTES;
        if self.limits.command_bytes_max > room {
            return Err(ConfigError::OutOfBounds {
                field: "limits.command_bytes_max".into(),
                value: self.limits.command_bytes_max as u64,
                min: 1 << 10,
                max: room as u64,
            });
        }
        let tokens = self.all_tokens()?;
        check_listener("data", "data.address", &self.data, self.data_address(), self, !tokens.is_empty())?;
        check_listener(
            "admin",
            "admin.address",
            &self.admin,
            self.admin_address(),
            self,
            !tokens.is_empty(),
        )?;
        self.certificate_names()?;
        // Peers have no tokens: their certificates are what lets them in.
        let vouched = self.peer.tls_client_ca.is_some();
        check_listener("peer", "peer.address", &self.peer, self.peer_address(), self, vouched)
    }

    /// Whether the node is one of a cluster.
    pub fn is_clustered(&self) -> bool {
        !self.cluster.etcd.is_empty()
    }

    /// Where peers are served.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer.address.unwrap_or(PEER_ADDRESS)
    }

    /// Where data is served.
    pub fn data_address(&self) -> SocketAddr {
        self.data.address.unwrap_or(DATA_ADDRESS)
    }

    /// Where administration is served.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address.unwrap_or(ADMIN_ADDRESS)
    }

    /// The tokens configured here and in the tokens file, checked.
    ///
    /// # Errors
    /// The file cannot be read, holds no token, or a token cannot be honoured.
    pub fn all_tokens(&self) -> Result<Vec<TokenSettings>, ConfigError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            token: Vec<TokenSettings>,
        }
        let mut tokens = self.tokens.clone();
        if let Some(path) = &self.node.tokens_file {
            let file: File = parse(&read(path)?, &path.display().to_string())?;
            if file.token.is_empty() {
                return Err(invalid("node.tokens_file", path.display(), "it has no [[token]]"));
            }
            tokens.extend(file.token);
        }
        check_tokens(&tokens)?;
        Ok(tokens)
    }

    /// Everything in force as TOML, each setting with its documentation. Neither secrets nor their hashes.
    pub fn print(&self) -> String {
        print::print(self)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })
}

fn parse<T: serde::de::DeserializeOwned>(text: &str, origin: &str) -> Result<T, ConfigError> {
    toml::from_str(text)
        .map_err(|source| ConfigError::Syntax { origin: origin.into(), source: Box::new(source) })
}

pub(crate) fn invalid(
    field: impl Into<String>,
    value: impl std::fmt::Display,
    problem: impl Into<String>,
) -> ConfigError {
    ConfigError::Invalid { field: field.into(), value: value.to_string(), problem: problem.into() }
}

fn check_name(field: &str, name: &str) -> Result<(), ConfigError> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        return Err(invalid(field, name, "it must be 1 to 64 of a-z, 0-9, '-' and '_'"));
    }
    Ok(())
}

fn check_cluster(cluster: &ClusterSettings) -> Result<(), ConfigError> {
    check_name("cluster.name", &cluster.name)?;
    let ClusterSettings { beacon_ms, shrink_after_ms, grace_ms, .. } = *cluster;
    if shrink_after_ms < 2 * beacon_ms || shrink_after_ms >= grace_ms {
        let field = "cluster.shrink_after_ms".to_owned();
        let (min, max) = (2 * beacon_ms, grace_ms.saturating_sub(1));
        return Err(ConfigError::OutOfBounds { field, value: shrink_after_ms, min, max });
    }
    for (node, address) in &cluster.peer_addresses {
        if node.parse::<u64>().is_err() || !address.contains(':') {
            let problem = "it must be a node's number = \"host:port\"";
            return Err(invalid(format!("cluster.peer_addresses.{node}"), address, problem));
        }
    }
    let pairs = [
        ("cluster.etcd_cert", &cluster.etcd_cert, &cluster.etcd_key),
        ("cluster.etcd_key", &cluster.etcd_key, &cluster.etcd_cert),
        ("cluster.etcd_cert", &cluster.etcd_cert, &cluster.etcd_ca),
    ];
    for (field, set, needed) in pairs {
        if let (Some(path), None) = (set, needed) {
            let problem = "etcd_cert and etcd_key go together, and need etcd_ca";
            return Err(invalid(field, path.display(), problem));
        }
    }
    match (&cluster.etcd_user, &cluster.etcd_password_file) {
        (Some(user), None) => Err(invalid("cluster.etcd_user", user, "it needs etcd_password_file")),
        (None, Some(path)) => {
            Err(invalid("cluster.etcd_password_file", path.display(), "it needs etcd_user"))
        }
        _ => Ok(()),
    }
}

fn check_listener(
    section: &str,
    field: &'static str,
    listener: &ListenerSettings,
    address: SocketAddr,
    config: &Config,
    tokens: bool,
) -> Result<(), ConfigError> {
    let (cert, key) = (&listener.tls_cert, &listener.tls_key);
    if let (Some(path), None) | (None, Some(path)) = (cert, key) {
        let set = if cert.is_some() { "tls_cert" } else { "tls_key" };
        let problem = "tls_cert and tls_key go together: set both or none";
        return Err(invalid(format!("{section}.{set}"), path.display(), problem));
    }
    if let (Some(path), None) = (&listener.tls_client_ca, cert) {
        let problem = "clients' certificates need TLS: set tls_cert and tls_key, too";
        return Err(invalid(format!("{section}.tls_client_ca"), path.display(), problem));
    }
    if address.ip().to_canonical().is_loopback() || config.node.insecure {
        return Ok(());
    }
    let missing = match (cert.is_some(), tokens) {
        (true, true) => return Ok(()),
        (false, true) if section != "peer" => "TLS (tls_cert and tls_key)",
        (true, false) if section == "peer" => "the authority of peers' certificates (tls_client_ca)",
        (false, _) if section == "peer" => "TLS (tls_cert, tls_key and tls_client_ca)",
        (true, false) => "tokens ([[token]] or node.tokens_file)",
        _ => "TLS (tls_cert and tls_key) and tokens ([[token]] or node.tokens_file)",
    };
    Err(ConfigError::Exposed { field, address, missing })
}

fn check_tokens(tokens: &[TokenSettings]) -> Result<(), ConfigError> {
    if tokens.len() > TOKENS_MAX {
        let (value, max) = (tokens.len() as u64, TOKENS_MAX as u64);
        return Err(ConfigError::OutOfBounds { field: "number of [[token]]".into(), value, min: 0, max });
    }
    for (position, token) in tokens.iter().enumerate() {
        let TokenSettings { name, hash, scopes, tenants, .. } = token;
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = "it must be 1 to 64 printable ASCII characters without spaces";
            return Err(invalid("token.name", name, problem));
        }
        if tokens.iter().take(position).any(|other| other.name == *name) {
            return Err(invalid("token.name", name, "another token has this name"));
        }
        if blake3::Hash::from_hex(hash).is_err() {
            // The value stays out of the message: it may be the secret itself, put here by mistake.
            let problem = "it must be 64 hexadecimal digits; `mortise token new` prints them";
            return Err(invalid(format!("hash of token {name:?}"), "(hidden)", problem));
        }
        if tokens.iter().take(position).any(|other| other.hash.eq_ignore_ascii_case(hash)) {
            return Err(invalid(
                format!("hash of token {name:?}"),
                "(hidden)",
                "another token has this hash",
            ));
        }
        if scopes.is_empty() {
            return Err(invalid(
                format!("scopes of token {name:?}"),
                "[]",
                "it may do nothing: name a scope",
            ));
        }
        let scoped = scopes.iter().any(|scope| matches!(scope, Scope::TenantRead | Scope::TenantWrite));
        if scoped && tenants.is_empty() {
            let problem = "tenant:read and tenant:write need tenants: list their names, or \"*\" for all";
            return Err(invalid(format!("tenants of token {name:?}"), "[]", problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
