//! Messages on their way. A message that is never delivered is a lost one, so nothing else needs to lose them.

use std::sync::Arc;

use mortise_core::group::NodeId;
use mortise_core::ids::Epoch;
use mortise_core::replica::{Body, Message, StreamId};

/// Messages of one stream in one direction arrive in order; those outside of streams (stream 0) in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// Who speaks.
    pub from: NodeId,
    /// Who listens.
    pub to: NodeId,
    /// The leadership, because each leader's process counts its streams from 1.
    pub epoch: Epoch,
    /// The stream.
    pub stream: StreamId,
}

impl Channel {
    /// The channel that a message takes.
    pub fn of(from: NodeId, to: NodeId, message: &Message) -> Self {
        Self { from, to, epoch: message.fence.epoch, stream: message.fence.stream }
    }
}

/// All messages on their way, by channel. No channel is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Network {
    channels: Vec<(Channel, Vec<Arc<Message>>)>,
}

impl Network {
    /// Sends a message. An acknowledgement takes the place of a smaller one right before it: that it could have been
    /// delivered earlier shows nothing that its delivery before the greater one was sent does not show.
    pub fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let channel = Channel::of(from, to, &message);
        let place = match self.channels.binary_search_by_key(&channel, |(channel, _)| *channel) {
            Ok(place) => place,
            Err(place) => {
                self.channels.insert(place, (channel, Vec::new()));
                place
            }
        };
        let queue = &mut self.channels[place].1;
        let is_durable = |message: &Message| matches!(message.body, Body::Durable { .. });
        if is_durable(&message)
            && queue.last().is_some_and(|last| is_durable(last) && last.fence == message.fence)
        {
            queue.pop();
        }
        queue.push(Arc::new(message));
    }

    /// The messages that can be delivered next: where each is, and what it says.
    pub fn heads(&self) -> impl Iterator<Item = (Channel, usize, &Arc<Message>)> {
        self.channels.iter().flat_map(|(channel, queue)| {
            let reachable = if channel.stream == StreamId(0) { queue.len() } else { 1 };
            queue.iter().take(reachable).enumerate().map(|(place, message)| (*channel, place, message))
        })
    }

    /// Takes a message out.
    pub fn take(&mut self, channel: Channel, place: usize) -> Option<Arc<Message>> {
        let row = self.channels.binary_search_by_key(&channel, |(channel, _)| *channel).ok()?;
        let queue = &mut self.channels[row].1;
        let message = (place < queue.len()).then(|| queue.remove(place));
        if queue.is_empty() {
            self.channels.remove(row);
        }
        message
    }

    /// Loses what is on its way in the channels that `lost` names.
    pub fn lose(&mut self, lost: impl Fn(&Channel) -> bool) {
        self.channels.retain(|(channel, _)| !lost(channel));
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }
}
