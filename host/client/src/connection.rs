//! The managed connections to one kind of listener of all nodes, and calls over them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mortise_proto::CLUSTER_METADATA;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

#[cfg(feature = "etcd")]
use crate::discovery::{Addresses, Discovery, Known};
use crate::error::{ClientError, ErrorKind, TookEffect};
#[cfg(feature = "etcd")]
use crate::options::ENDPOINTS_MAX;
use crate::options::Options;
use crate::routes::{Routes, Subject};
use crate::trail::Trail;

/// Most bytes of a message that is taken from a node: the largest reply that a profile may allow by default is 4 MiB,
/// and answers of a stream come in parts of 1 MiB and one reply.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Most bytes of a command or request that can be sent, which leaves room for what frames it. A node takes 8 MiB by default.
const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1024;

/// Reconnects by itself, and finds leaders. Cheap to clone; clones share what they found.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    routes: Arc<Routes>,
    /// Whence the addresses come, where they are not configured.
    #[cfg(feature = "etcd")]
    _discovery: Option<Discovery>,
    authorization: Option<MetadataValue<Ascii>>,
    /// Which cluster answered first: from then on no other one is spoken to.
    cluster: Arc<OnceLock<MetadataValue<Ascii>>>,
    timeout: Duration,
    silence_timeout: Duration,
}

/// When a failed call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It reads, or doing it twice is like doing it once.
    Freely,
    /// The same, and it is quickly done: a node that says nothing for `silence_timeout` is left for another.
    Quickly,
    /// Only where it surely changed nothing.
    IfWithoutEffect,
}

impl Connection {
    /// Connects to one of them, so that wrong addresses are noticed now and not at the first call.
    pub(crate) async fn open(options: &Options, endpoints: &[String]) -> Result<Self, ClientError> {
        let connection = Self::lazy(options, endpoints)?;
        connection.routes.connect(endpoints).await?;
        Ok(connection)
    }

    /// Connects at the first call.
    pub(crate) fn lazy(options: &Options, endpoints: &[String]) -> Result<Self, ClientError> {
        let parse = |token: &String| {
            let value: Result<MetadataValue<Ascii>, _> = format!("Bearer {token}").parse();
            let mut value = value
                .map_err(|_| ClientError::new(ErrorKind::Invalid, "the token has characters no token has"))?;
            value.set_sensitive(true);
            Ok::<_, ClientError>(value)
        };
        let authorization = options.token.as_ref().map(parse).transpose()?;
        Ok(Self {
            routes: Arc::new(Routes::new(options, endpoints)?),
            #[cfg(feature = "etcd")]
            _discovery: None,
            authorization,
            cluster: Arc::default(),
            timeout: options.timeout,
            silence_timeout: options.silence_timeout,
        })
    }

    /// To the nodes that etcd knows, at whatever addresses it has of them.
    #[cfg(feature = "etcd")]
    pub(crate) fn discover(
        options: &Options,
        discovery: &Discovery,
        address: fn(&Addresses) -> &str,
    ) -> Result<Self, ClientError> {
        let scheme = if options.ca_pem.is_some() { "https" } else { "http" };
        let endpoints = move |known: &Known| -> Vec<String> {
            let nodes = known.nodes.values().take(ENDPOINTS_MAX);
            nodes.map(|node| format!("{scheme}://{}", address(&node.addresses))).collect()
        };
        let mut known = discovery.known();
        let first = endpoints(&known.borrow_and_update());
        if first.is_empty() {
            let problem = "no node of this cluster has registered with etcd yet";
            return Err(ClientError::new(ErrorKind::Unavailable, problem).retryable());
        }
        let connection = Self { _discovery: Some(discovery.clone()), ..Self::lazy(options, &first)? };
        let routes = Arc::downgrade(&connection.routes);
        tokio::spawn(async move {
            // It ends with the connection, which keeps the discovery going.
            while known.changed().await.is_ok() {
                let Some(routes) = routes.upgrade() else { return };
                routes.configure(&endpoints(&known.borrow_and_update()));
            }
        });
        Ok(connection)
    }

    /// For what must not happen at another node than the one meant.
    pub(crate) fn only_node(&self) -> Result<(), ClientError> {
        if self.routes.configured() == 1 {
            return Ok(());
        }
        Err(ClientError::new(ErrorKind::Invalid, "this is for one node: give its endpoint alone"))
    }

    /// A way to whoever answers for the subject.
    pub(crate) fn trail(&self, subject: Subject) -> Trail {
        Trail::new(&self.routes, subject)
    }

    /// How long a call may take, retries included.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long a node may say nothing before another one is tried.
    pub(crate) fn silence_timeout(&self) -> Duration {
        self.silence_timeout
    }

    /// The message with what says who asks.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        if let Some(cluster) = self.cluster.get() {
            request.metadata_mut().insert(CLUSTER_METADATA, cluster.clone());
        }
        request
    }

    /// The answer, of which the metadata says who gave it.
    ///
    /// # Errors
    /// [`ErrorKind::WrongCluster`], of a call that was under way when the first answer came.
    pub(crate) fn accept<R>(&self, response: Response<R>) -> Result<R, ClientError> {
        if let Some(told) = response.metadata().get(CLUSTER_METADATA)
            && self.cluster.get_or_init(|| told.clone()) != told
        {
            let problem =
                "the answer came from another cluster than the first one: give endpoints of one only";
            return Err(ClientError::new(ErrorKind::WrongCluster, problem).with_effect());
        }
        Ok(response.into_inner())
    }

    /// Calls, and calls again, here or elsewhere, after a failure that may pass, within the timeout of the options.
    pub(crate) async fn call<M, R, F>(
        &self,
        subject: Subject,
        repeat: Repeat,
        message: M,
        mut call: impl FnMut(Channel, Request<M>) -> F,
    ) -> Result<R, ClientError>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + self.timeout;
        let mut trail = self.trail(subject);
        let mut in_doubt = false;
        let mut last = None;
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Err(self.timed_out(last.as_ref(), in_doubt));
            }
            let until = match repeat {
                Repeat::Quickly => deadline.min(now + self.silence_timeout),
                Repeat::Freely | Repeat::IfWithoutEffect => deadline,
            };
            let mut request = self.request(message.clone());
            request.set_timeout(until.saturating_duration_since(now));
            let error = match timeout_at(until, call(trail.channel(), request)).await {
                Ok(Ok(response)) => {
                    trail.answered();
                    return self.accept(response);
                }
                Ok(Err(status)) => ClientError::from(status),
                Err(_) if until == deadline => {
                    let error = self.timed_out(last.as_ref(), true);
                    trail.failed(&error);
                    return Err(error);
                }
                Err(_) => silent(self.silence_timeout),
            };
            in_doubt |= error.took_effect() == TookEffect::Unknown;
            if !error.is_retryable() || (repeat == Repeat::IfWithoutEffect && in_doubt) {
                return Err(error);
            }
            let wait = trail.failed(&error);
            if Instant::now() + wait >= deadline {
                return Err(self.timed_out(Some(&error), in_doubt));
            }
            tracing::debug!(%error, ?wait, "trying again");
            last = Some(error);
            sleep(wait).await;
        }
    }

    /// A call that takes as long as it takes: a stream either way. It is made again, elsewhere, only where nobody
    /// answers or the node does not lead, which it says before it does anything.
    pub(crate) async fn call_long<M, R, F>(
        &self,
        subject: Subject,
        mut message: impl FnMut() -> M,
        mut call: impl FnMut(Channel, Request<M>) -> F,
    ) -> Result<R, ClientError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + self.timeout;
        let mut trail = self.trail(subject);
        loop {
            let error = match call(trail.channel(), self.request(message())).await {
                Ok(response) => {
                    trail.answered();
                    return self.accept(response);
                }
                Err(status) => ClientError::from(status),
            };
            let elsewhere = matches!(
                error.kind(),
                ErrorKind::NotLeader
                    | ErrorKind::Unavailable
                    | ErrorKind::ShuttingDown
                    | ErrorKind::WrongCluster
            );
            if !elsewhere || error.took_effect() != TookEffect::No {
                return Err(error);
            }
            let wait = trail.failed(&error);
            if Instant::now() + wait >= deadline {
                return Err(error);
            }
            sleep(wait).await;
        }
    }

    /// The error of what did not succeed within the timeout.
    pub(crate) fn timed_out(&self, last: Option<&ClientError>, in_doubt: bool) -> ClientError {
        let seconds = self.timeout.as_secs_f64();
        let message = match last {
            Some(error) => format!("no success within {seconds} s; the last error: {error}"),
            None => format!("no answer within {seconds} s"),
        };
        let error = ClientError::new(ErrorKind::DeadlineExceeded, message).retryable();
        if in_doubt { error.effect_unknown() } else { error }
    }
}

/// Whether a message with so many bytes of payload can be sent at all.
///
/// # Errors
/// [`ErrorKind::TooLarge`].
pub(crate) fn check_size(bytes: usize) -> Result<(), ClientError> {
    if bytes <= PAYLOAD_BYTES_MAX {
        return Ok(());
    }
    let message = format!("{bytes} bytes are too many for one message; the most is {PAYLOAD_BYTES_MAX}");
    Err(ClientError::new(ErrorKind::TooLarge, message))
}

/// The error of a node that is given up.
pub(crate) fn silent(limit: Duration) -> ClientError {
    let message = format!("the node said nothing for {limit:?}");
    ClientError::new(ErrorKind::DeadlineExceeded, message).retryable().effect_unknown()
}

#[cfg(test)]
mod tests {
    use mortise_proto::v1::{ErrorCode, ErrorDetail};

    use super::*;

    fn connection() -> Connection {
        let endpoints = ["http://a:1".to_owned(), "http://b:1".to_owned()];
        Connection::lazy(&Options::default(), &endpoints).unwrap()
    }

    fn detail(code: ErrorCode) -> ErrorDetail {
        ErrorDetail::new(code, "no").retryable()
    }

    /// Makes a long call that meets these errors and then succeeds: what comes of it, and how often it was made.
    async fn long_call(errors: &[ErrorDetail]) -> (Result<(), ClientError>, usize) {
        let mut made = 0;
        let call = |_, _| {
            let error = errors.get(made).cloned();
            made += 1;
            async move { error.map_or(Ok(Response::new(())), |error| Err(error.into())) }
        };
        let result = connection().call_long(Subject::Group(0), || (), call).await;
        (result, made)
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_call_is_made_again_only_where_it_began_nothing() {
        let elsewhere = [detail(ErrorCode::NotLeader), detail(ErrorCode::ShuttingDown)];
        let (result, made) = long_call(&elsewhere).await;
        assert!(result.is_ok());
        assert_eq!(made, 3);
        for error in [detail(ErrorCode::NotLeader).effect_unknown(), detail(ErrorCode::Overloaded)] {
            let (result, made) = long_call(&[error]).await;
            assert!(result.is_err());
            assert_eq!(made, 1);
        }
        let (result, _) = long_call(&vec![detail(ErrorCode::NotLeader); 10_000]).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NotLeader, "it ends");
    }

    #[tokio::test]
    async fn the_first_cluster_that_answers_is_spoken_to_and_no_other() {
        let connection = connection();
        let from = |cluster: Option<&'static str>| {
            let mut response = Response::new(());
            if let Some(cluster) = cluster {
                response.metadata_mut().insert(CLUSTER_METADATA, MetadataValue::from_static(cluster));
            }
            response
        };
        let meant = |connection: &Connection| {
            let request = connection.request(());
            request.metadata().get(CLUSTER_METADATA).map(|cluster| cluster.to_str().unwrap().to_owned())
        };
        // An older release does not say.
        connection.accept(from(None)).unwrap();
        assert_eq!(meant(&connection), None);
        connection.accept(from(Some("a1"))).unwrap();
        let clone = connection.clone();
        let error = clone.accept(from(Some("b2"))).unwrap_err();
        assert_eq!((error.kind(), error.took_effect()), (ErrorKind::WrongCluster, TookEffect::Yes));
        connection.accept(from(Some("a1"))).unwrap();
        assert_eq!(meant(&clone).as_deref(), Some("a1"));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_quick_call_leaves_a_node_for_its_silence() {
        for (repeat, made_by_then) in
            [(Repeat::Quickly, 2), (Repeat::Freely, 1), (Repeat::IfWithoutEffect, 1)]
        {
            let mut made = 0;
            let call = |_, _: Request<()>| {
                made += 1;
                let silent = made == 1;
                async move {
                    if silent {
                        std::future::pending::<()>().await;
                    }
                    Ok(Response::new(()))
                }
            };
            let begun = Instant::now();
            let result = connection().call(Subject::Group(0), repeat, (), call).await;
            assert_eq!((made, result.is_ok()), (made_by_then, repeat == Repeat::Quickly), "{repeat:?}");
            let limit =
                if result.is_ok() { Options::default().silence_timeout } else { Options::default().timeout };
            assert!((limit..limit * 2).contains(&begun.elapsed()), "{repeat:?}: {:?}", begun.elapsed());
        }
    }
}
