//! What goes over the network: messages of replicas, and the streams that they open and that break.

use mortise_core::group::{BootId, NodeId};
use mortise_core::replica::{Event, Message, StreamId};

use super::network::StreamKey;
use super::{Checked, Happening, Inside, World};

impl World {
    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let Some(boot) = self.boot(from) else { return };
        let (now, random) = (self.now, &mut self.random);
        if to.0 == 0 || to.0 as usize > self.nodes.len() {
            return;
        }
        let times = if message.fence.stream == StreamId(0) {
            self.network.beside(now, from, to, random)
        } else {
            match self.network.on_stream(now, (from, boot), to, &message, random) {
                Ok(times) => times,
                Err(broken) => return self.tell_opener(broken),
            }
        };
        let listener = self.boot(to);
        for (copy, at) in times.into_iter().enumerate() {
            // A copy may reach another process than the one it was meant for.
            let boot = if copy == 0 { listener } else { None };
            let what = Inside::Event(Event::Message { from, message: message.clone() });
            self.at(at, Happening::ToProcess { node: to, boot, what });
        }
    }

    /// A stream breaks.
    pub(crate) fn break_stream(&mut self, key: StreamKey) {
        if let Some(stream) = self.network.streams.get_mut(&key) {
            stream.broken = true;
        }
        self.tell_opener(key);
    }

    /// A stream is broken: its opener finds out, sooner or later.
    fn tell_opener(&mut self, (opener, boot, stream): StreamKey) {
        let Some(peer) = self.network.streams.get(&(opener, boot, stream)).map(|stream| stream.peer) else {
            return;
        };
        let after = self.random.between(self.unit / 100, self.unit);
        self.tell_process(opener, after, Inside::Event(Event::StreamClosed { peer, stream }));
    }

    pub(super) fn open_stream(&mut self, id: NodeId, peer: NodeId, stream: StreamId) {
        let known = peer.0 > 0 && peer.0 as usize <= self.nodes.len();
        let alive = known.then(|| self.node(peer).alive().map(|process| process.boot)).flatten();
        let passes = self.network.passes(id, peer) && self.network.passes(peer, id);
        let way = self.network.latency(&mut self.random) + self.network.latency(&mut self.random);
        match alive.filter(|_| passes) {
            Some(peer_boot) => self.tell_process(id, way, Inside::Opened { peer, peer_boot, stream }),
            None => {
                // Refused at once by a machine without the process; without an answer it takes longer.
                let after = if passes { way } else { self.random.between(self.unit / 8, self.unit) };
                self.tell_process(id, after, Inside::Event(Event::StreamClosed { peer, stream }));
            }
        }
    }

    pub(super) fn opened(
        &mut self,
        id: NodeId,
        peer: NodeId,
        peer_boot: BootId,
        stream: StreamId,
    ) -> Checked {
        let Some(boot) = self.boot(id) else { return Ok(()) };
        if self.boot(peer) != Some(peer_boot) {
            return self.step(id, Event::StreamClosed { peer, stream });
        }
        self.network.open((id, boot, stream), peer, peer_boot);
        self.step(id, Event::StreamOpened { peer, stream })
    }
}
