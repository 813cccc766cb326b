//! A bounded queue of messages on their way to a peer.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::Stream;
use mortise_core::replica::{Body, Message};
use tokio::sync::mpsc;

use crate::options::Options;
use crate::stop::locked;

/// Where messages are put. Never waits.
#[derive(Clone, Debug)]
pub(crate) struct QueueSender {
    messages: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// Where they come out, in order; ends when nobody can put any more, or [`Contents`] is dropped.
#[derive(Debug)]
pub(crate) struct QueueReceiver {
    messages: Arc<Mutex<Option<mpsc::Receiver<Message>>>>,
    bytes: Arc<AtomicUsize>,
}

/// What waits in a queue, and is forgotten with this. The receiver may lie where nobody can reach it: HTTP/2 keeps the
/// body of a request as long as the other side does not read it. Drop the sender first, which wakes the receiver.
#[derive(Debug)]
pub(crate) struct Contents(Arc<Mutex<Option<mpsc::Receiver<Message>>>>);

/// The queue is full, or nobody reads it any more.
#[derive(Debug)]
pub(crate) struct Full;

pub(crate) fn queue(options: &Options) -> (QueueSender, QueueReceiver) {
    let (sender, receiver) = mpsc::channel(options.queue_messages_max.max(1));
    let bytes = Arc::new(AtomicUsize::new(0));
    let sender =
        QueueSender { messages: sender, bytes: Arc::clone(&bytes), bytes_max: options.queue_bytes_max };
    (sender, QueueReceiver { messages: Arc::new(Mutex::new(Some(receiver))), bytes })
}

impl QueueSender {
    pub(crate) fn push(&self, message: Message) -> Result<(), Full> {
        let bytes = payload_bytes(&message);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(bytes) <= self.bytes_max;
        if fits && self.messages.try_send(message).is_ok() {
            return Ok(());
        }
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Err(Full)
    }
}

impl QueueReceiver {
    pub(crate) fn contents(&self) -> Contents {
        Contents(Arc::clone(&self.messages))
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        locked(&self.0).take();
    }
}

impl Stream for QueueReceiver {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut messages = locked(&self.messages);
        let Some(messages) = messages.as_mut() else { return Poll::Ready(None) };
        let next = messages.poll_recv(context);
        if let Poll::Ready(Some(message)) = &next {
            self.bytes.fetch_sub(payload_bytes(message), Ordering::Relaxed);
        }
        next
    }
}

/// Bytes of entries; the rest of a message is small.
fn payload_bytes(message: &Message) -> usize {
    match &message.body {
        Body::Append { entries, .. } => entries.iter().map(|entry| entry.payload.len()).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use mortise_core::ids::LogIndex;
    use mortise_core::replica::{Fence, LogEntry, Position};

    use super::*;

    fn append(bytes: usize) -> Message {
        let fence = Fence {
            cluster: 1,
            group: Default::default(),
            generation: Default::default(),
            epoch: Default::default(),
            boot: Default::default(),
            from: Default::default(),
            to: Default::default(),
            stream: Default::default(),
        };
        let entry = LogEntry { at: Position::default(), payload: vec![0; bytes].into() };
        let body =
            Body::Append { previous: Position::default(), entries: vec![entry], commit: LogIndex::default() };
        Message { fence, body }
    }

    #[tokio::test]
    async fn a_queue_is_bounded_by_messages_and_by_bytes() {
        let options = Options { queue_messages_max: 3, queue_bytes_max: 100, ..Options::default() };
        let (sender, mut receiver) = queue(&options);
        sender.push(append(500)).expect("a message that is too large is taken where nothing waits");
        sender.push(append(1)).expect_err("and nothing besides");
        assert!(receiver.next().await.is_some());
        for _ in 0..2 {
            sender.push(append(50)).expect("room");
        }
        sender.push(append(1)).expect_err("a byte too much");
        sender.push(append(0)).expect("a third message");
        sender.push(append(0)).expect_err("a fourth message");
        drop(sender);
        assert_eq!(receiver.by_ref().count().await, 3);
        assert_eq!(receiver.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_waits_is_forgotten_with_the_contents() {
        let (sender, mut receiver) = queue(&Options::default());
        let contents = receiver.contents();
        sender.push(append(1)).expect("room");
        sender.push(append(1)).expect("room");
        assert!(receiver.next().await.is_some());
        drop(contents);
        assert!(receiver.next().await.is_none());
        sender.push(append(1)).expect_err("nobody reads it");
    }
}
