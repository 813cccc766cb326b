//! The state of a model: the nodes, what is between them, and what an observer remembers.
//!
//! What is of no interest happens at once, with the action that brought it about, and is not an action of its own:
//! streams open where both ends are there, the rounds of matching after the first, reads of the record, applying, restarts right after a
//! crash, writes that the configuration does not hold back, and the removal of messages that their listener would
//! never take. A slow node is one whose next action comes late.

use std::sync::Arc;

use mortise_core::group::{GroupRecord, NodeId};
use mortise_core::replica::StreamId;

use crate::action::shown;
use crate::bounds::{Bounds, Budget, Counts};
use crate::coordinator::Coordinator;
use crate::history::History;
use crate::network::Network;
use crate::node::Node;

/// A stream from a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// The leader.
    pub leader: NodeId,
    /// The other end.
    pub peer: NodeId,
    /// Its number.
    pub stream: StreamId,
    /// It broke, and the leader does not know yet.
    pub broken: bool,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The nodes, from 1 on.
    pub nodes: Vec<Arc<Node>>,
    /// The coordinator.
    pub coordinator: Coordinator,
    /// Messages on their way.
    pub network: Network,
    /// Streams that leaders have, sorted.
    pub streams: Vec<Stream>,
    /// What the observer remembers.
    pub history: History,
    /// What has happened how often.
    pub spent: Counts,
}

impl World {
    /// Nodes that were never started, and a group's first record.
    pub fn new(record: GroupRecord, nodes: Vec<Node>) -> Self {
        Self {
            nodes: nodes.into_iter().map(Arc::new).collect(),
            coordinator: Coordinator::new(record),
            network: Network::default(),
            streams: Vec::new(),
            history: History::default(),
            spent: Counts::default(),
        }
    }

    /// The place of a node in `nodes`.
    pub fn place(id: NodeId) -> usize {
        usize::try_from(id.0).unwrap_or(usize::MAX) - 1
    }

    /// The node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[Self::place(id)]
    }

    /// The node, to be changed.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        Arc::make_mut(&mut self.nodes[Self::place(id)])
    }

    /// Whether `kind` may happen once more.
    pub fn may(&self, bounds: &Bounds, kind: Budget) -> bool {
        self.spent.of(kind) < bounds.limits.of(kind)
    }

    /// Whether a node knows the coordinator's record as it is now.
    pub fn is_informed(&self, node: &Node) -> bool {
        let known = node.view.record.as_ref().map(|record| record.nonce);
        known == Some(self.coordinator.record.nonce) && node.coordinator == self.coordinator.identity
    }

    /// The state in a few lines.
    pub fn summary(&self) -> String {
        let record = &self.coordinator.record;
        let names = |set: &std::collections::BTreeSet<NodeId>| {
            set.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let mut text = format!(
            "  record: revision {}, epoch {}, leader {}, isr {{{}}}, elr {{{}}}, min_isr {}, {} swaps on their way\n",
            self.coordinator.revision,
            record.epoch,
            record.leader.map_or("none".to_string(), |leader| leader.to_string()),
            names(&record.isr),
            names(&record.elr),
            record.min_isr,
            self.coordinator.swaps.len(),
        );
        for node in &self.nodes {
            let view = &node.view;
            let log: Vec<String> = node.disk.written.log.iter().map(|entry| shown(entry.at)).collect();
            text += &format!(
                "  node {} ({}): {:?}, epoch {}, log [{}], durable {}, committed {}{}{}\n",
                node.id,
                view.incarnation,
                view.role,
                view.promised.epoch,
                log.join(" "),
                node.disk.durable.last(),
                view.commit,
                if self.is_informed(node) { "" } else { ", has not seen the record" },
                if view.frozen { ", frozen" } else { "" },
            );
        }
        text
    }
}
