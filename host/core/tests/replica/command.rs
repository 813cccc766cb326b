//! What scripts can say.

use std::error::Error;
use std::str::FromStr;

use mortise_core::group::NodeId;

use crate::render::Topic;
use crate::world::Gate;

/// A node, as scripts write it.
#[derive(Clone, Copy)]
pub(crate) struct Node(pub(crate) NodeId);

/// A link between two nodes, in one direction: `1-2`.
#[derive(Clone, Copy)]
pub(crate) struct Link(pub(crate) NodeId, pub(crate) NodeId);

impl FromStr for Node {
    type Err = Box<dyn Error>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(NodeId(text.parse()?)))
    }
}

impl FromStr for Link {
    type Err = Box<dyn Error>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (from, to) = text.split_once('-').ok_or("a link is written 1-2")?;
        Ok(Self(NodeId(from.parse()?), NodeId(to.parse()?)))
    }
}

/// What can be held back: `1-2` (messages), `disk-1`, `apply-1`, `watch-1`, `fetch-1`, `node-1`.
impl FromStr for Gate {
    type Err = Box<dyn Error>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (what, node) = text.split_once('-').ok_or("a gate is written 1-2 or disk-1")?;
        let node = NodeId(node.parse()?);
        Ok(match what {
            "disk" => Self::Disk(node),
            "apply" => Self::Apply(node),
            "watch" => Self::Watch(node),
            "fetch" => Self::Fetch(node),
            "node" => Self::Node(node),
            from => Self::Messages(NodeId(from.parse()?), node),
        })
    }
}

impl FromStr for Topic {
    type Err = Box<dyn Error>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "messages" => Self::Messages,
            "beacons" => Self::Beacons,
            "writes" => Self::Writes,
            "records" => Self::Records,
            other => return Err(format!("{other} is no topic").into()),
        })
    }
}

/// What a script can do.
#[derive(goldenscript::Command)]
pub(crate) enum Command {
    /// A new group of voters 1 to `voters`, and `others` more nodes. All start but the last `late` voters.
    Cluster {
        voters: u64,
        #[arg(key)]
        min_isr: Option<u32>,
        #[arg(key, optional)]
        others: u64,
        #[arg(key, optional)]
        late: usize,
        #[arg(key)]
        append: Option<usize>,
        #[arg(key)]
        window: Option<usize>,
        #[arg(key)]
        tail: Option<usize>,
        #[arg(key)]
        uncommitted: Option<usize>,
        #[arg(key)]
        waiting: Option<usize>,
    },
    /// So many milliseconds pass.
    Pass(u64),
    /// Time passes until the node leads and serves.
    Until(Node),
    /// Shows more from now on: messages, beacons, writes, records.
    Trace(Vec<Topic>),
    /// Shows no more than clients, swaps and notices.
    Quiet,

    /// A client writes commands, one entry each, filled up to `size` bytes.
    Write {
        node: Node,
        names: Vec<String>,
        #[arg(key)]
        ack: Option<String>,
        #[arg(key, optional)]
        size: usize,
    },
    /// A client proposes bytes that are no entry.
    WriteGarbage(Node),
    /// A client reads: `linearizable`, `lease`, `bounded` (with `ms`), `token` (with `at`).
    Read {
        node: Node,
        how: String,
        #[arg(key)]
        ms: Option<u64>,
        #[arg(key)]
        at: Option<String>,
        #[arg(key)]
        deadline: Option<u64>,
    },
    /// A client asks for the fate of a token, `epoch.index`.
    Ask {
        node: Node,
        token: String,
        #[arg(key)]
        deadline: Option<u64>,
    },

    /// An operator asks the node to hand the leadership to another.
    Transfer(Node, Node),
    Add(Node, Node),
    Remove(Node, Node),
    MinIsr(Node, u32),
    UncleanStart(Node),
    /// Accepts the coordinator, with the memories of all running nodes; `gone` as `2/3`.
    Accept {
        node: Node,
        #[arg(key)]
        gone: Option<String>,
        #[arg(key)]
        unheard: Option<String>,
    },

    /// The process ends; what was written and not flushed is lost, unless it is kept.
    Crash {
        nodes: Vec<Node>,
        #[arg(key, optional)]
        keep: bool,
    },
    Restart(Vec<Node>),
    /// The disk of a node that does not run is emptied.
    Wipe(Node),
    /// The log of a node that does not run is found damaged.
    Damage(Node),
    /// A disk write fails.
    FailDisk(Node),
    /// The node's state machine computes something else from now on, or no longer.
    Differ(Node, #[arg(optional)] String),
    /// The node takes a snapshot of what it applied, and drops the log before it if wanted.
    Snapshot {
        node: Node,
        #[arg(key, optional)]
        drop: bool,
    },

    /// Messages on these links are lost from now on.
    Cut(Vec<Link>),
    /// Messages from and to these nodes are lost from now on.
    Isolate(Vec<Node>),
    /// No messages are lost any more.
    Heal,
    /// Holds back messages (`1-2`), what goes through `disk-1`, `apply-1`, `watch-1`, `fetch-1`, or a whole process
    /// (`node-1`).
    Hold(Vec<Gate>),
    Release(Vec<Gate>),
    /// Loses what is held back, and goes on holding back.
    Lose(Vec<Gate>),
    /// Sends a message that nobody sent: what is not given is as the leader or follower would say it now.
    Forge {
        link: Link,
        kind: String,
        #[arg(many, optional)]
        fields: Vec<(String, String)>,
    },

    /// What becomes of swaps: `answered`, `lost` (the answer is), `late`, `dropped`.
    Swaps(String),
    /// The late swaps are carried out.
    LateSwaps,
    /// The coordinator does not reach these nodes, and reaches them again.
    Away(Vec<Node>),
    Back(Vec<Node>),
    /// The node's session is lost, and it gets a new one.
    SessionLost(Node),
    SessionNew(Node),
    BackUp,
    /// The coordinator goes on from the backup, under this identity, or under a new one.
    Restore {
        #[arg(key)]
        id: Option<u64>,
    },
    WipeCoordinator,

    /// Shows the nodes; all without names.
    State(#[arg(many, optional)] Vec<Node>),
    /// Shows the coordinator's record.
    Record,
    Log(Vec<Node>),
}
