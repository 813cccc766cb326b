//! One connection at a time, to one endpoint after the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::config::EtcdConfig;
use super::errors::classify;
use crate::backend::BackendError;

/// HTTP/2 pings find a dead connection. etcd closes connections that ping more often than every 5 s
/// (`--grpc-keepalive-min-time`), so faster detection is left to the watch's and the lease's own traffic.
const PING_EVERY: Duration = Duration::from_secs(7);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The connection in use.
pub(super) struct Connections {
    config: EtcdConfig,
    current: Mutex<Option<Current>>,
    /// Counts failures: names the endpoint in use, and tells a connection from those before it.
    turn: AtomicUsize,
}

#[derive(Clone)]
struct Current {
    turn: usize,
    client: Client,
}

/// Largest answer: a page of a listing, or what a watch tells at once. Others may have put values under our prefix that
/// are as large as etcd takes, which is 1.5 MiB.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A client, its endpoint, and which connection it is.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) endpoint: String,
    turn: usize,
}

impl Connections {
    pub(super) fn new(config: EtcdConfig) -> Self {
        Self { config, current: Mutex::new(None), turn: AtomicUsize::new(0) }
    }

    pub(super) fn attempt_timeout(&self) -> Duration {
        self.config.attempt_timeout
    }

    /// The next request goes to the next endpoint.
    pub(super) fn turn_away(&self) {
        self.turn.fetch_add(1, Ordering::AcqRel);
    }

    /// After a failure that lies in the connection, the next request goes to the next endpoint; unless somebody turned
    /// away since `link` was given out: of two endpoints, turning away twice would come back to the one that failed.
    pub(super) fn failed(&self, link: &Link, error: &BackendError) {
        if matches!(error, BackendError::LeaseGone | BackendError::Compacted(_)) {
            return;
        }
        let next = link.turn.wrapping_add(1);
        let _ = self.turn.compare_exchange(link.turn, next, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The connection in use, made where there is none. Waits for one attempt at most, also where many wait for the
    /// same connection.
    pub(super) async fn link(&self) -> Result<Link, BackendError> {
        let within = self.config.attempt_timeout;
        let Ok(mut current) = timeout(within, self.current.lock()).await else {
            let endpoint = self.endpoint(self.turn.load(Ordering::Acquire));
            return Err(BackendError::NotDone { endpoint, why: format!("no connection within {within:?}") });
        };
        let turn = self.turn.load(Ordering::Acquire);
        let endpoint = self.endpoint(turn);
        if let Some(Current { client, .. }) = current.as_ref().filter(|current| current.turn == turn) {
            return Ok(Link { client: client.clone(), endpoint, turn });
        }
        *current = None;
        let connecting = Client::connect([endpoint.as_str()], Some(self.options()));
        let error = match timeout(self.config.attempt_timeout, connecting).await {
            Ok(Ok(client)) => {
                *current = Some(Current { turn, client: client.clone() });
                return Ok(Link { client, endpoint, turn });
            }
            // With a user, connecting asks for a token; nothing else was asked yet.
            Ok(Err(error)) => match classify(error, &endpoint) {
                BackendError::Unanswered { endpoint, why } => BackendError::NotDone { endpoint, why },
                error => error,
            },
            Err(_) => BackendError::NotDone {
                endpoint,
                why: format!("no connection within {:?}", self.config.attempt_timeout),
            },
        };
        self.turn.fetch_add(1, Ordering::AcqRel);
        Err(error)
    }

    fn endpoint(&self, turn: usize) -> String {
        let endpoints = &self.config.endpoints;
        // The configuration was checked: there is at least one.
        endpoints.get(turn % endpoints.len().max(1)).cloned().unwrap_or_default()
    }

    fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.config.attempt_timeout)
            .with_keep_alive(PING_EVERY, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            // A member cut off from the others ends our streams instead of letting them hang.
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((name, password)) = &self.config.user {
            options = options.with_user(name, password);
        }
        if let Some(tls) = &self.config.tls {
            let mut wanted = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
            if let Some((certificate, key)) = &tls.client_pem {
                wanted = wanted.identity(Identity::from_pem(certificate, key));
            }
            if let Some(name) = &tls.server_name {
                wanted = wanted.domain_name(name);
            }
            options = options.with_tls(wanted);
        }
        options
    }

    /// One bounded attempt. A failure that lies in the connection makes the next request use the next endpoint.
    pub(super) async fn call<T>(
        &self,
        work: impl AsyncFnOnce(&Client, &str) -> Result<T, etcd_client::Error>,
    ) -> Result<T, BackendError> {
        let link = self.link().await?;
        let within = self.config.attempt_timeout;
        let answer = match timeout(within, work(&link.client, &link.endpoint)).await {
            Ok(answer) => answer.map_err(|error| classify(error, &link.endpoint)),
            Err(_) => {
                let (endpoint, why) = (link.endpoint.clone(), format!("no answer within {within:?}"));
                Err(BackendError::Unanswered { endpoint, why })
            }
        };
        answer.inspect_err(|error| self.failed(&link, error))
    }
}

/// The end of the range of all keys that begin with `prefix`. Ours end with '/', so there always is one.
pub(super) fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}
