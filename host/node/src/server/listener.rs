//! A listening socket and its connections.
//!
//! The node accepts connections itself, because it wants what tonic's own loop does not offer: a bound on
//! connections, those in a handshake included; handshakes that end in time; HTTP/1.1 and HTTP/2 on the same TLS port;
//! and a drain after which connections can be cut off.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::ServeError;
use crate::config::ListenerSettings;
use crate::metrics::Metrics;
use crate::security;

/// How long a new connection may take to say its first word, and to finish a TLS handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// After how much silence the other side is asked whether it is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const KEEP_ALIVE_TIME_MAX: Duration = Duration::from_secs(20);
/// Bytes a client may send on one call before the node has read them. Enough for a fast stream: what the node takes
/// in is bounded by the stream's window, not by this.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all calls of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of an HTTP/2 frame: fewer and larger ones than the protocol's 16 KiB cost less.
const FRAME_BYTES_MAX: u32 = 128 << 10;
/// Bytes of a call's headers.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Pause after a failure to accept, such as too many open files: it does not get better by asking at once.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);
/// How long calls may take to notice that their connection was closed.
const CUT_TIME_MAX: Duration = Duration::from_secs(2);

/// What is asked of the listeners. It only goes on, never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Take connections.
    Serving,
    /// Take none any more; those there are finish the calls they have, and end.
    Draining,
    /// Close all connections.
    Cut,
}

/// Bytes that the other side may send before the node has read them.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    /// On one call.
    pub(super) stream: u32,
    /// On all calls of a connection.
    pub(super) connection: u32,
}

impl Windows {
    /// For clients.
    pub(super) const CLIENTS: Self =
        Self { stream: STREAM_WINDOW_BYTES, connection: CONNECTION_WINDOW_BYTES };
    /// For peers.
    pub(super) const PEERS: Self =
        Self { stream: mortise_peer::STREAM_WINDOW_BYTES, connection: mortise_peer::CONNECTION_WINDOW_BYTES };
}

pub(super) struct Listener {
    name: &'static str,
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    connections_max: usize,
    calls_max: u32,
    windows: Windows,
}

impl Listener {
    /// Reads the TLS files and takes the address.
    pub(super) async fn bind(
        name: &'static str,
        address: SocketAddr,
        settings: &ListenerSettings,
        windows: Windows,
    ) -> Result<Self, ServeError> {
        let tls =
            security::acceptor(settings).map_err(|source| ServeError::Tls { listener: name, source })?;
        let failed = |source| ServeError::Bind { listener: name, address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let (connections_max, calls_max) = (settings.connections_max, settings.calls_per_connection_max);
        Ok(Self { name, socket, address, tls, connections_max, calls_max, windows })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop, and returns when nothing of it is left: see [`Phase`].
    pub(super) fn serve(
        self,
        router: Router,
        metrics: &Arc<Metrics>,
        phase: watch::Receiver<Phase>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let metrics = Arc::clone(metrics);
        async move {
            let Self { name, socket, tls, connections_max, calls_max, windows, .. } = self;
            let (alive, mut last) = mpsc::channel(1);
            let builder = builder(Tasks { alive }, calls_max, windows);
            let connector = Connector { builder, tls, router, phase: phase.clone() };
            let mut connections = JoinSet::new();
            let mut draining = pin!(reached(phase.clone(), Phase::Draining));
            loop {
                let accepted = tokio::select! {
                    () = &mut draining => break,
                    Some(_) = connections.join_next() => {
                        metrics.connections(name, connections.len());
                        continue;
                    }
                    accepted = socket.accept() => accepted,
                };
                match accepted {
                    Ok((stream, peer)) if connections.len() >= connections_max => {
                        tracing::warn!(listener = name, %peer, "too many connections: closed a new one");
                        metrics.connection_refused(name);
                        drop(stream);
                    }
                    Ok((stream, peer)) => {
                        connections.spawn(connector.clone().connection(stream, peer));
                        metrics.connections(name, connections.len());
                    }
                    Err(error) => {
                        tracing::warn!(listener = name, %error, "accept a connection");
                        tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
                    }
                }
            }
            drop((socket, connector));
            let mut cut = pin!(reached(phase, Phase::Cut));
            loop {
                let ended = tokio::select! {
                    ended = connections.join_next() => ended,
                    () = &mut cut => break,
                };
                metrics.connections(name, connections.len());
                if ended.is_none() {
                    break;
                }
            }
            connections.shutdown().await;
            metrics.connections(name, 0);
            // Calls notice that their connection is gone. Nothing is ever sent here: this ends with the last call.
            if timeout(CUT_TIME_MAX, last.recv()).await.is_err() {
                tracing::warn!(listener = name, "calls go on without their connections");
            }
        }
    }
}

/// Where hyper runs a connection's calls. Tells when the last has ended: the data folder closes when nobody holds
/// the replica any more.
#[derive(Clone)]
struct Tasks {
    /// Closes when its last clone is dropped.
    alive: mpsc::Sender<()>,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let alive = self.alive.clone();
        tokio::spawn(async move {
            task.await;
            drop(alive);
        });
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Connector {
    builder: Builder<Tasks>,
    tls: Option<TlsAcceptor>,
    router: Router,
    phase: watch::Receiver<Phase>,
}

impl Connector {
    async fn connection(self, stream: TcpStream, peer: SocketAddr) {
        // Small answers must not wait for others to fill a packet.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "set TCP_NODELAY");
        }
        let Some(tls) = self.tls.clone() else {
            if let Ok(Ok(1..)) = timeout(HANDSHAKE_TIME_MAX, stream.peek(&mut [0])).await {
                self.serve(stream, peer).await;
            }
            return;
        };
        match timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                // With the certificates that were shown, for those who ask.
                let router = self.router.clone().layer(Extension(stream.connect_info()));
                Self { router, ..self }.serve(stream, peer).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake"),
            Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let service = TowerToHyperService::new(self.router);
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = reached(self.phase, Phase::Draining) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error, "a connection broke");
        }
    }
}

fn builder(tasks: Tasks, calls_max: u32, windows: Windows) -> Builder<Tasks> {
    let mut builder = Builder::new(tasks);
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIME_MAX)
        .max_concurrent_streams(calls_max)
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_BYTES_MAX);
    builder
}

/// Resolves when the listeners shall be in this phase, or beyond.
async fn reached(mut phase: watch::Receiver<Phase>, wanted: Phase) {
    if phase.wait_for(|phase| *phase >= wanted).await.is_err() {
        // Without its sender nobody can ask for it any more.
        pending().await
    }
}
