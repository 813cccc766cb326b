//! Messages that nobody sent.

use std::error::Error;

use mortise_core::digest::Digest;
use mortise_core::group::{BootId, Generation, Incarnation};
use mortise_core::ids::{Epoch, GroupId, LogIndex};
use mortise_core::replica::{Body, Fence, LogEntry, Message, Position, RoleKind, SnapshotMeta, StreamId};

use crate::command::Link;
use crate::script::position;
use crate::world::{CLUSTER, GROUP, World, entry};

/// A message's kind and the fields in which it differs from what would be right.
pub(crate) struct Forgery<'a> {
    pub(crate) link: Link,
    pub(crate) kind: &'a str,
    pub(crate) fields: &'a [(String, String)],
}

impl Forgery<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str, otherwise: u64) -> Result<u64, Box<dyn Error>> {
        self.text(name).map_or(Ok(otherwise), |value| Ok(value.parse()?))
    }

    fn position(&self, name: &str, otherwise: Position) -> Result<Position, Box<dyn Error>> {
        self.text(name).map_or(Ok(otherwise), position)
    }
}

/// The message. Its fence is the right one for the present leadership, except for what is given.
pub(crate) fn message(world: &World, forgery: &Forgery) -> Result<Message, Box<dyn Error>> {
    Ok(Message { fence: fence(world, forgery)?, body: body(world, forgery)? })
}

fn fence(world: &World, forgery: &Forgery) -> Result<Fence, Box<dyn Error>> {
    let Link(from, to) = forgery.link;
    let record = world.coordinator.record.clone().ok_or("there is no record")?;
    let incarnation = |node| record.member(node).map_or(0, |member| member.incarnation.0);
    let leads = |node| world.view(node).is_some_and(|view| view.role == RoleKind::Leader);
    let (leader, peer) = if leads(to) { (to, from) } else { (from, to) };
    let beside = ["beacon", "beacon_answer", "ask", "tell", "campaign", "diverged", "refused"];
    let stream = world.streams.get(&(leader, peer)).filter(|_| !beside.contains(&forgery.kind));
    Ok(Fence {
        cluster: forgery.number("cluster", CLUSTER)?,
        group: GroupId(forgery.number("group", GROUP.0)?),
        generation: Generation(forgery.number("generation", record.generation.0)?),
        epoch: Epoch(forgery.number("epoch", record.epoch.0)?),
        boot: BootId(forgery.number("boot", record.leader_boot.0)?),
        from: Incarnation(forgery.number("from", incarnation(from))?),
        to: Incarnation(forgery.number("to", incarnation(to))?),
        stream: StreamId(forgery.number("stream", stream.copied().unwrap_or_default().0)?),
    })
}

fn body(world: &World, forgery: &Forgery) -> Result<Body, Box<dyn Error>> {
    let last = world.view(forgery.link.1).map_or(Position::default(), |view| view.last);
    let index = LogIndex(forgery.number("index", last.index.0)?);
    let at = forgery.position("at", last)?;
    Ok(match forgery.kind {
        "open" => Body::Open,
        "last" => Body::Last { last: at, reinstall: forgery.text("reinstall") == Some("true") },
        "match" => Body::Match { last: forgery.position("last", last)?, end: at },
        "append" => Body::Append {
            previous: forgery.position("previous", last)?,
            entries: entries(forgery)?,
            commit: LogIndex(forgery.number("commit", 0)?),
        },
        "durable" => {
            let applied = forgery.number("applied", 0)?;
            let digest = Digest([forgery.number("digest", 0)? as u8; 32]);
            let applied = (applied > 0).then_some((LogIndex(applied), digest));
            Body::Durable {
                index,
                applied,
                rebuild: (forgery.text("rebuild") == Some("true")).then_some(LogIndex(0)),
            }
        }
        "snapshot" => {
            let generation = Generation(forgery.number("of", 1)?);
            let mut epochs = mortise_core::replica::EpochTable::default();
            epochs.append(Position { epoch: at.epoch, index: LogIndex(1) });
            let (digest, stamp) = Default::default();
            let meta = SnapshotMeta { generation, last: at, epochs, digest, stamp };
            Body::Snapshot { meta, replace: forgery.text("replace") == Some("true") }
        }
        "beacon" => Body::Beacon {
            round: forgery.number("round", 1)?,
            commit: LogIndex(forgery.number("commit", 0)?),
        },
        "beacon_answer" => Body::BeaconAnswer {
            round: forgery.number("round", 1)?,
            lease: forgery.text("lease") == Some("true"),
        },
        "ask" => Body::AskCommit { question: forgery.number("question", 1)? },
        "tell" => Body::TellCommit {
            question: forgery.number("question", 1)?,
            commit: LogIndex(forgery.number("commit", 0)?),
        },
        "campaign" => Body::Campaign,
        "diverged" => Body::Diverged { index },
        "refused" => Body::Refused { promised: Epoch(forgery.number("promised", 1)?) },
        other => return Err(format!("{other} is no kind of message").into()),
    })
}

/// Entries written as `2.5@a/2.6@b`; `garbage` stands for one that cannot be decoded.
fn entries(forgery: &Forgery) -> Result<Vec<LogEntry>, Box<dyn Error>> {
    let list = forgery.text("entries").into_iter().flat_map(|list| list.split('/'));
    list.map(|item| {
        let (at, name) = item.split_once('@').ok_or("an entry is written 2.5@name")?;
        let payload = match name {
            "garbage" => bytes::Bytes::from_static(b"\xff"),
            name => entry(name, 0).encode(),
        };
        Ok(LogEntry { at: position(at)?, payload })
    })
    .collect()
}
