//! Making a connection that ends when it is told to, and is never made again behind our back.
//!
//! A tonic channel dials anew by itself when its connection has ended, and keeps it open while anybody holds a clone. A link wants to
//! know of both: so the channel gets one socket and no other, and the socket breaks when the link gives it up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::{Ready, ready};
use hyper_util::rt::TokioIo;
use mortise_core::group::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use crate::certificate::{Tls, is_of_another};
use crate::counters::Count;
use crate::options::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use crate::shared::Shared;
use crate::stop::Stop;

/// Bytes of an HTTP/2 frame: fewer and larger ones than the protocol's 16 KiB cost less.
const FRAME_BYTES_MAX: u32 = 128 << 10;

/// A connection to `peer` at `address`, until `stop` is given. The caller bounds the time it takes.
pub(super) async fn dial(
    shared: &Shared,
    peer: NodeId,
    address: &str,
    stop: &Stop,
) -> Result<Channel, DialError> {
    let endpoint = endpoint(shared, peer, address)?;
    let stream = TcpStream::connect(address).await?;
    // Small answers must not wait for others to fill a packet.
    stream.set_nodelay(true)?;
    let socket = Socket { stream, stopped: Box::pin(stop.stopped()) };
    let connected = endpoint.connect_with_connector(Once(Some(TokioIo::new(socket)))).await;
    Ok(connected.inspect_err(|error| {
        if is_of_another(error) {
            let why = format!("{address} shows the certificate of somebody else: {}", deepest(error));
            shared.counters.complain(peer, Count::OtherCertificate, &why);
        }
    })?)
}

fn endpoint(shared: &Shared, peer: NodeId, address: &str) -> Result<Endpoint, tonic::transport::Error> {
    let scheme = if shared.tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX);
    match &shared.tls {
        Some(Tls { client, names: Some(names) }) => {
            endpoint.tls_config(client.clone().domain_name(names.of(peer)))
        }
        Some(Tls { client, names: None }) => endpoint.tls_config(client.clone()),
        None => Ok(endpoint),
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// Its own text says "transport error" only.
    #[error("{}", deepest(.0))]
    Channel(#[from] tonic::transport::Error),
}

/// What an error says at the bottom.
fn deepest(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

/// Gives its socket to the first who asks.
struct Once(Option<TokioIo<Socket>>);

impl Service<Uri> for Once {
    type Response = TokioIo<Socket>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<Socket>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// Breaks when it is told to.
struct Socket {
    stream: TcpStream,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Socket {
    /// The stream, unless it was told to break. HTTP/2 always reads, so this is noticed at once.
    fn whole(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.stopped.as_mut().poll(context) {
            Poll::Ready(()) => {
                // Asked again, it is still ready.
                self.stopped = Box::pin(futures::future::ready(()));
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.whole(context) {
            Ok(stream) => stream.poll_read(context, buffer),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.whole(context) {
            Ok(stream) => stream.poll_write(context, bytes),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.whole(context) {
            Ok(stream) => stream.poll_flush(context),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.whole(context) {
            Ok(stream) => stream.poll_shutdown(context),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
