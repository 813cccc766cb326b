//! Settings that every implementation shares.

use std::time::Duration;

use crate::error::CoordinationError;

/// Longest name of a cluster or a tenant in a key.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// etcd rounds shorter TTLs up to about 2 s, with its default election timeout of 1 s.
const TTL_SECONDS_MIN: u32 = 2;
/// Beyond it a dead node would stay in the directory of the living for too long.
const TTL_SECONDS_MAX: u32 = 600;

/// How a node takes part in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster's name: 1 to 64 of a-z, 0-9, '-' and '_'. All keys lie below `/{cluster}/`.
    pub cluster: String,
    /// Time to live of this node's session, in seconds, 2 to 600. Default 5. A failover does not wait for it.
    pub ttl_seconds: u32,
    /// Longest time for a read with all its attempts. Default 3 s, minimum 100 ms. An etcd that elects a leader
    /// needs one to two seconds.
    pub request_timeout: Duration,
    /// The time between two complete listings, which find what a watch lost. Default 30 s, minimum 100 ms.
    pub relist_every: Duration,
}

impl Config {
    /// The defaults for the cluster of that name.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            ttl_seconds: 5,
            request_timeout: Duration::from_secs(3),
            relist_every: Duration::from_secs(30),
        }
    }

    /// Whether all settings are within their bounds.
    ///
    /// # Errors
    /// [`CoordinationError::Config`] names the setting that is not.
    pub fn check(&self) -> Result<(), CoordinationError> {
        let fail = |why: String| Err(CoordinationError::Config(why));
        if !is_name(&self.cluster) {
            return fail(format!(
                "the cluster's name {:?} must be 1 to {NAME_BYTES_MAX} of a-z, 0-9, '-' and '_'",
                self.cluster
            ));
        }
        if !(TTL_SECONDS_MIN..=TTL_SECONDS_MAX).contains(&self.ttl_seconds) {
            return fail(format!(
                "a session's TTL of {} s is not {TTL_SECONDS_MIN} to {TTL_SECONDS_MAX}",
                self.ttl_seconds
            ));
        }
        for (name, time) in [("request_timeout", self.request_timeout), ("relist_every", self.relist_every)] {
            if time < Duration::from_millis(100) {
                return fail(format!("{name} of {time:?} is less than 100 ms"));
            }
        }
        Ok(())
    }

    /// The time to live that is asked for.
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_seconds.into())
    }
}

/// Whether `name` can be a part of a key.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_bounds_are_named() {
        assert_eq!(Config::new("blue-1").check(), Ok(()));
        let wrong = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::new("blue");
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        for name in ["", "a/b", "/a", "A", "ä", &"a".repeat(65)] {
            assert!(wrong(&|config| config.cluster = name.into()).contains(&format!("{name:?}")));
        }
        assert!(wrong(&|config| config.ttl_seconds = 1).contains("TTL of 1 s"));
        assert!(wrong(&|config| config.request_timeout = Duration::ZERO).contains("request_timeout"));
        assert!(wrong(&|config| config.relist_every = Duration::ZERO).contains("relist_every"));
    }
}
