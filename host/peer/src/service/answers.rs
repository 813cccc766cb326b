//! What goes back on a replication stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{FutureExt, Stream};
use mortise_proto::v1;
use tokio::sync::oneshot;
use tonic::Status;

use crate::queue::QueueReceiver;
use crate::streams::End;
use crate::wire::message_to_wire;

/// The follower's messages; ends when the reading of the leader's has ended, and ends that when it is dropped.
pub(crate) struct Answers {
    messages: QueueReceiver,
    /// `None` once it was told.
    ended: Option<oneshot::Receiver<Result<(), Status>>>,
    end: Arc<End>,
}

impl Answers {
    pub(super) fn new(
        messages: QueueReceiver,
        ended: oneshot::Receiver<Result<(), Status>>,
        end: Arc<End>,
    ) -> Self {
        Self { messages, ended: Some(ended), end }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.end.stop.stop();
    }
}

impl Stream for Answers {
    type Item = Result<v1::PeerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(ended) = &mut self.ended else { return Poll::Ready(None) };
        if let Poll::Ready(ended) = ended.poll_unpin(context) {
            self.ended = None;
            let stopped = |_| Err(Status::unavailable("this node stops"));
            return Poll::Ready(ended.unwrap_or_else(stopped).err().map(Err));
        }
        match Pin::new(&mut self.messages).poll_next(context) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(message_to_wire(message)))),
            // Without a sender the reading ends, too, and wakes this.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
