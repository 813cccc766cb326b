//! Stories are told: each command of a script changes the world, and what comes of it is written down.

use std::error::Error;
use std::fmt::Write as _;

use mortise_core::group::{BootId, GroupRecord, NodeId, Nonce};
use mortise_core::ids::{Epoch, LogIndex};
use mortise_core::replica::{
    Ack, Event, Freshness, MonoTime, OperatorCommand, Options, Position, Proposal, Read, SessionState,
};

use crate::command::{Command, Link, Node};
use crate::forge::{self, Forgery};
use crate::render::{entries, record, view};
use crate::world::{CLUSTER, GROUP, SwapMode, World, entry, first_life};

/// Longest that `until` waits, in microseconds.
const UNTIL_MAX: u64 = 20_000_000;

/// A story as it is told.
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) world: Option<World>,
}

impl goldenscript::Runner for Story {
    type Command = Command;

    fn run(&mut self, told: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        if let Command::Cluster {
            voters,
            min_isr,
            others,
            late,
            append,
            window,
            tail,
            uncommitted,
            waiting,
        } = told
        {
            let mut options = Options::new(CLUSTER, GROUP, NodeId(1), BootId(1), 0);
            options.append_bytes_max = append.unwrap_or(options.append_bytes_max);
            options.window_bytes_max = window.unwrap_or(options.window_bytes_max);
            options.tail_bytes_max = tail.unwrap_or(options.tail_bytes_max);
            options.uncommitted_bytes_max = uncommitted.unwrap_or(options.uncommitted_bytes_max);
            options.waiting_max = waiting.unwrap_or(options.waiting_max);
            let nodes: Vec<NodeId> = (1..=*voters).map(NodeId).collect();
            let others: Vec<NodeId> = (voters + 1..=voters + others).map(NodeId).collect();
            let created: Vec<_> = nodes.iter().map(|node| (*node, first_life(*node))).collect();
            let min_isr = min_isr.unwrap_or(nodes.len().min(2) as u32);
            let record = GroupRecord::create(1, &created, min_isr, Nonce(1))?;
            let mut world = World::new(record, &others, options);
            let punctual = nodes.len().saturating_sub(*late);
            nodes.iter().take(punctual).chain(&others).for_each(|node| world.start(*node));
            let lines = world.take_lines();
            self.world = Some(world);
            return Ok(lines);
        }
        let world = self.world.as_mut().ok_or("a story begins with a cluster")?;
        world.is_stamped = matches!(told, Command::Pass(_) | Command::Until(_));
        perform(world, told)?;
        world.settle();
        Ok(world.take_lines())
    }
}

fn perform(world: &mut World, told: &Command) -> Result<(), Box<dyn Error>> {
    match told {
        Command::Cluster { .. } => return Err("there is a cluster already".into()),
        Command::Pass(ms) => world.pass(ms * 1000, |_| false),
        Command::Until(Node(node)) => {
            let serves = |world: &World| world.view(*node).is_some_and(|view| view.serving);
            world.pass(UNTIL_MAX, serves);
            if !serves(world) {
                return Err(format!("node {node} does not lead").into());
            }
        }
        Command::Trace(topics) => world.shown.extend(topics),
        Command::Quiet => world.shown.clear(),
        Command::Write { .. } | Command::WriteGarbage(_) | Command::Read { .. } | Command::Ask { .. } => {
            ask(world, told)?;
        }
        Command::Transfer(Node(node), Node(to)) => operate(world, *node, OperatorCommand::Transfer(*to)),
        Command::Add(Node(node), Node(other)) => operate(world, *node, OperatorCommand::Add(*other)),
        Command::Remove(Node(node), Node(other)) => operate(world, *node, OperatorCommand::Remove(*other)),
        Command::MinIsr(Node(node), min) => operate(world, *node, OperatorCommand::SetMinIsr(*min)),
        Command::UncleanStart(Node(node)) => operate(world, *node, OperatorCommand::UncleanStart),
        Command::Accept { node: Node(node), gone, unheard } => {
            let (gone, unheard) = (nodes(gone.as_deref())?, nodes(unheard.as_deref())?);
            let others =
                world.nodes.keys().filter(|id| *id != node && !gone.contains(id) && !unheard.contains(id));
            let heard = others.filter_map(|id| world.view(*id)).map(|view| view.memory);
            let command = OperatorCommand::AcceptCoordinator { heard: heard.collect(), gone };
            operate(world, *node, command);
        }
        Command::State(_) | Command::Record | Command::Log(_) => show(world, told),
        Command::Forge { link, kind, fields } => {
            let message = forge::message(world, &Forgery { link: *link, kind, fields })?;
            world.step(link.1, Event::Message { from: link.0, message });
        }
        other => change_world(world, other)?,
    }
    Ok(())
}

fn nodes(list: Option<&str>) -> Result<Vec<NodeId>, Box<dyn Error>> {
    let names = list.into_iter().flat_map(|list| list.split('/'));
    names.map(|node| Ok(NodeId(node.parse()?))).collect()
}

pub(crate) fn position(text: &str) -> Result<Position, Box<dyn Error>> {
    let (epoch, index) = text.split_once('.').ok_or("a position is written 1.2")?;
    Ok(Position { epoch: Epoch(epoch.parse()?), index: LogIndex(index.parse()?) })
}

fn operate(world: &mut World, node: NodeId, command: OperatorCommand) {
    let name = match &command {
        OperatorCommand::Transfer(to) => format!("transfer to {to}"),
        OperatorCommand::Add(other) => format!("add {other}"),
        OperatorCommand::Remove(other) => format!("remove {other}"),
        OperatorCommand::SetMinIsr(min) => format!("min_isr {min}"),
        OperatorCommand::UncleanStart => "unclean start".into(),
        OperatorCommand::AcceptCoordinator { .. } => "accept the coordinator".into(),
    };
    let id = world.request(name);
    world.step(node, Event::Operator { id, command });
}

/// What clients do.
fn ask(world: &mut World, told: &Command) -> Result<(), Box<dyn Error>> {
    match told {
        Command::Write { node: Node(node), names, ack, size } => {
            for name in names {
                let id = world.request(name.clone());
                let text = format!("{name:.<size$}");
                let payload = entry(&text, world.now / 1000).encode();
                let ack = if ack.as_deref() == Some("leader") { Ack::Leader } else { Ack::Committed };
                world.step(*node, Event::Propose(Proposal { id, payload, ack }));
            }
        }
        Command::WriteGarbage(Node(node)) => {
            let id = world.request("garbage".into());
            let payload = bytes::Bytes::from_static(b"\xff\xff");
            world.step(*node, Event::Propose(Proposal { id, payload, ack: Ack::Committed }));
        }
        Command::Read { node: Node(node), how, ms, at, deadline } => {
            let freshness = match how.as_str() {
                "linearizable" => Freshness::Linearizable,
                "lease" => Freshness::Lease,
                "bounded" => Freshness::Bounded(ms.ok_or("bounded by how many ms?")? * 1000),
                "token" => Freshness::AtLeast(position(at.as_deref().ok_or("at which position?")?)?),
                other => return Err(format!("{other} is no way to read").into()),
            };
            let id = world.request(format!("{how} read"));
            let deadline = MonoTime(world.now + deadline.unwrap_or(1000) * 1000);
            world.step(*node, Event::Read(Read { id, freshness, deadline }));
        }
        Command::Ask { node: Node(node), token, deadline } => {
            let id = world.request(format!("token {token}"));
            let deadline = MonoTime(world.now + deadline.unwrap_or(1000) * 1000);
            world.step(*node, Event::AskFate { id, token: position(token)?, deadline });
        }
        _ => {}
    }
    Ok(())
}

/// What goes wrong, and right again.
fn change_world(world: &mut World, told: &Command) -> Result<(), Box<dyn Error>> {
    match told {
        Command::Crash { nodes, keep } => nodes.iter().for_each(|Node(node)| world.crash(*node, *keep)),
        Command::Restart(nodes) => nodes.iter().for_each(|Node(node)| world.start(*node)),
        Command::Wipe(Node(node)) => world.wipe(*node),
        Command::Damage(Node(node)) => world.node(*node).disk.damaged = true,
        Command::FailDisk(Node(node)) => world.step(*node, Event::Fault("an fsync failed".into())),
        Command::Differ(Node(node), no_longer) => world.node(*node).differs = no_longer.is_empty(),
        Command::Snapshot { node: Node(node), drop } => {
            let meta = world.node(*node).disk.take_snapshot();
            let first = meta.last.index.next();
            world.step(*node, Event::SnapshotTaken(meta));
            if *drop {
                world.node(*node).disk.drop_before(first);
                world.step(*node, Event::LogDropped { first });
            }
        }
        Command::Cut(links) => world.cut.extend(links.iter().map(|Link(from, to)| (*from, *to))),
        Command::Isolate(nodes) => {
            for Node(node) in nodes {
                let others: Vec<NodeId> = world.nodes.keys().copied().filter(|other| other != node).collect();
                world.cut.extend(others.iter().flat_map(|other| [(*node, *other), (*other, *node)]));
            }
        }
        Command::Heal => world.cut.clear(),
        Command::Hold(gates) => world.held.extend(gates),
        Command::Release(gates) => gates.iter().for_each(|gate| world.release(*gate)),
        Command::Lose(gates) => gates.iter().for_each(|gate| world.lose(*gate)),
        other => change_coordinator(world, other)?,
    }
    Ok(())
}

fn change_coordinator(world: &mut World, told: &Command) -> Result<(), Box<dyn Error>> {
    match told {
        Command::Swaps(mode) => {
            world.coordinator.mode = match mode.as_str() {
                "answered" => SwapMode::Answered,
                "lost" => SwapMode::Lost,
                "late" => SwapMode::Late,
                "dropped" => SwapMode::Dropped,
                other => return Err(format!("{other} is no way to answer swaps").into()),
            }
        }
        Command::LateSwaps => {
            for outcome in world.coordinator.carry_out_late() {
                world.say(outcome);
            }
            world.tell_record();
        }
        Command::Away(nodes) => {
            for Node(node) in nodes {
                world.away.insert(*node);
                lose_session(world, *node);
            }
        }
        Command::Back(nodes) => {
            for Node(node) in nodes {
                world.away.remove(node);
                world.connect(*node);
            }
        }
        Command::SessionLost(Node(node)) => lose_session(world, *node),
        Command::SessionNew(Node(node)) => world.connect(*node),
        Command::BackUp => world.coordinator.back_up(),
        Command::Restore { id } => {
            let id = id.unwrap_or(world.coordinator.id + 1);
            world.coordinator.restore(id);
            world.tell_record();
        }
        Command::WipeCoordinator => {
            world.coordinator.wipe();
            world.tell_record();
        }
        _ => {}
    }
    Ok(())
}

fn lose_session(world: &mut World, node: NodeId) {
    world.coordinator.close_session(node);
    world.step(node, Event::Session(SessionState::Offline));
    world.tell_candidates();
}

fn show(world: &mut World, told: &Command) {
    match told {
        Command::State(nodes) => {
            let all: Vec<NodeId> = world.nodes.keys().copied().collect();
            let nodes = if nodes.is_empty() { all } else { nodes.iter().map(|Node(node)| *node).collect() };
            for node in nodes {
                let line = world.view(node).map(|seen| view(node, &seen));
                world.say(line.unwrap_or_else(|| format!("{node}: does not run")));
            }
        }
        Command::Record => {
            let line = world.coordinator.record.as_ref().map_or("no record".into(), record);
            world.say(line);
        }
        Command::Log(nodes) => {
            for Node(node) in nodes {
                let mut line = format!("{node}: ");
                let log = &world.node(*node).disk.log;
                _ = write!(line, "{}", entries(log));
                world.say(line);
            }
        }
        _ => {}
    }
}
