//! A watch that notices when it hangs.
//!
//! Every second it asks for its progress, and any message is a sign of life. The *revision* of such an answer is not
//! used: etcd before 3.4.25 and 3.5.8 gives one that is ahead of events still to come (etcd 15220).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{ANSWER_BYTES_MAX, Connections, Link, prefix_end};
use super::errors::classify;
use super::{key_value, stamp, unsigned};
use crate::backend::{Answer, BackendError, Watch, WatchEvent};
use crate::seen::Revision;

/// How often a silent watch is asked whether it lives.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A watch without a message for this long hangs: three probes were not answered.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// An open watch.
pub struct EtcdWatch {
    connections: Arc<Connections>,
    link: Link,
    stream: WatchStream,
    /// When the last message came.
    heard: Instant,
    /// What came before it was asked for: none, or what follows "created".
    ready: VecDeque<WatchResponse>,
}

pub(super) async fn open(
    connections: Arc<Connections>,
    prefix: String,
    from: i64,
) -> Result<EtcdWatch, BackendError> {
    let link = connections.link().await?;
    let options = WatchOptions::new().with_range(prefix_end(&prefix)).with_start_revision(from);
    let opening = async {
        let mut client = link.client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut stream = client.watch(prefix, Some(options)).await?;
        let first = stream.message().await?;
        Ok::<_, etcd_client::Error>((stream, first))
    };
    let within = connections.attempt_timeout();
    let opened = match timeout(within, opening).await {
        Ok(opened) => opened.map_err(|error| classify(error, &link.endpoint)),
        Err(_) => Err(BackendError::NotDone {
            endpoint: link.endpoint.clone(),
            why: format!("no watch within {within:?}"),
        }),
    };
    let (stream, first) = opened.inspect_err(|error| connections.failed(&link, error))?;
    let ready = first.into_iter().collect();
    Ok(EtcdWatch { connections, link, stream, heard: Instant::now(), ready })
}

impl EtcdWatch {
    fn silent(&self, why: impl Into<String>) -> BackendError {
        BackendError::NotDone { endpoint: self.link.endpoint.clone(), why: why.into() }
    }

    /// The next message; asks for one now and then.
    async fn message(&mut self) -> Result<WatchResponse, BackendError> {
        if let Some(response) = self.ready.pop_front() {
            return Ok(response);
        }
        loop {
            let end = self.heard + SILENCE_MAX;
            if Instant::now() >= end {
                return Err(self.silent(format!("the watch was silent for {SILENCE_MAX:?}")));
            }
            let probe = (Instant::now() + PROBE_EVERY).min(end);
            match timeout_at(probe, self.stream.message()).await {
                Ok(Ok(Some(response))) => {
                    self.heard = Instant::now();
                    return Ok(response);
                }
                Ok(Ok(None)) => return Err(self.silent("the watch ended")),
                Ok(Err(error)) => return Err(classify(error, &self.link.endpoint)),
                // The client's queue has room for 100 questions; a stream that takes none is dead.
                Err(_) => {
                    let asked = timeout_at(end, self.stream.request_progress()).await;
                    if !matches!(asked, Ok(Ok(()))) {
                        return Err(self.silent("the watch takes no questions"));
                    }
                }
            }
        }
    }
}

impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Answer<Vec<WatchEvent>>, BackendError> {
        let told = self.told().await;
        told.inspect_err(|error| self.connections.failed(&self.link, error))
    }
}

impl EtcdWatch {
    async fn told(&mut self) -> Result<Answer<Vec<WatchEvent>>, BackendError> {
        let response = self.message().await?;
        if response.compact_revision() > 0 {
            return Err(BackendError::Compacted(Revision(unsigned(response.compact_revision()))));
        }
        if response.canceled() {
            return Err(self.silent(format!("the watch was cancelled: {}", response.cancel_reason())));
        }
        let event = |event: &etcd_client::Event| {
            let deleted = event.event_type() == EventType::Delete;
            event.kv().map(|at| WatchEvent { at: key_value(at), deleted })
        };
        let events = response.events().iter().filter_map(event).collect();
        stamp(response.header(), &self.link.endpoint, events)
    }
}
