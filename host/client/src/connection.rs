//! One managed connection to a listener of a node, and calls over it.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::backoff::Backoff;
use crate::error::{ClientError, ErrorKind, TookEffect};
use crate::options::{Options, describe};

/// Most bytes of a message that is taken from a node: the largest reply that a profile may allow by default is 4 MiB,
/// and answers of a stream come in parts of 1 MiB and one reply.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Reconnects by itself. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

/// When a failed call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It reads, or doing it twice is like doing it once.
    Freely,
    /// Only where it surely changed nothing.
    IfWithoutEffect,
}

impl Connection {
    /// Connects, so that a wrong address is noticed now and not at the first call.
    pub(crate) async fn open(options: &Options, uri: &str) -> Result<Self, ClientError> {
        let endpoint = options.endpoint(uri)?;
        let channel = endpoint.connect().await.map_err(|error| {
            let message = format!("cannot connect to {uri}: {}", describe(&error));
            ClientError::new(ErrorKind::Unavailable, message).retryable()
        })?;
        Self::of(options, channel)
    }

    /// Connects at the first call.
    pub(crate) fn lazy(options: &Options, uri: &str) -> Result<Self, ClientError> {
        Self::of(options, options.endpoint(uri)?.connect_lazy())
    }

    fn of(options: &Options, channel: Channel) -> Result<Self, ClientError> {
        let parse = |token: &String| {
            let value: Result<MetadataValue<Ascii>, _> = format!("Bearer {token}").parse();
            let mut value = value
                .map_err(|_| ClientError::new(ErrorKind::Invalid, "the token has characters no token has"))?;
            value.set_sensitive(true);
            Ok::<_, ClientError>(value)
        };
        let authorization = options.token.as_ref().map(parse).transpose()?;
        Ok(Self { channel, authorization, timeout: options.timeout })
    }

    /// The message with what says who asks.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }

    /// Calls, and calls again after a failure that may pass, within the timeout of the options.
    pub(crate) async fn call<M, R, F>(
        &self,
        repeat: Repeat,
        message: M,
        mut call: impl FnMut(Channel, Request<M>) -> F,
    ) -> Result<R, ClientError>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + self.timeout;
        let mut backoff = Backoff::new();
        let mut in_doubt = false;
        loop {
            let mut request = self.request(message.clone());
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let error = match timeout_at(deadline, call(self.channel.clone(), request)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => ClientError::from(status),
                Err(_) => return Err(self.timed_out(None, true)),
            };
            in_doubt |= error.took_effect() == TookEffect::Unknown;
            let again = error.is_retryable()
                && error.kind() != ErrorKind::DeadlineExceeded
                && (repeat == Repeat::Freely || !in_doubt);
            if !again {
                return Err(error);
            }
            let wait = backoff.next();
            if Instant::now() + wait >= deadline {
                return Err(self.timed_out(Some(&error), in_doubt));
            }
            tracing::debug!(%error, ?wait, "trying again");
            sleep(wait).await;
        }
    }

    fn timed_out(&self, last: Option<&ClientError>, in_doubt: bool) -> ClientError {
        let seconds = self.timeout.as_secs_f64();
        let message = match last {
            Some(error) => format!("no success within {seconds} s; the last error: {error}"),
            None => format!("no answer within {seconds} s"),
        };
        let error = ClientError::new(ErrorKind::DeadlineExceeded, message).retryable();
        if in_doubt { error.effect_unknown() } else { error }
    }
}
