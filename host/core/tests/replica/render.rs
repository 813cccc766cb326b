//! Effects, messages, records and views in the words of the stories.

use std::collections::BTreeSet;
use std::fmt::Display;

use mortise_core::group::{GroupRecord, Incarnation, MemberKind, NodeId};
use mortise_core::replica::{Body, LogEntry, Message, Notice, Position, Refusal, RoleKind, View, Write};

use crate::world::command;

/// What a story shows beside clients, swaps and notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// Streams and what is sent on them.
    Messages,
    /// Beacons, their answers, questions and what else is sent beside streams.
    Beacons,
    Writes,
    Records,
}

impl Topic {
    pub(crate) fn of(body: &Body) -> Option<Self> {
        match body {
            Body::Beacon { .. } | Body::BeaconAnswer { .. } => Some(Self::Beacons),
            _ => Some(Self::Messages),
        }
    }
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "-".into() } else { items.join(" ") }
}

fn at(at: Position) -> String {
    format!("{}.{}", at.epoch, at.index)
}

pub(crate) fn entries(entries: &[LogEntry]) -> String {
    list(
        entries
            .iter()
            .map(|entry| format!("{}:{}", at(entry.at), command(entry).unwrap_or_else(|| "start".into()))),
    )
}

pub(crate) fn write(write: &Write) -> String {
    match write {
        Write::Save(hard) => {
            let leader = hard.promised.leader.map_or("nobody".into(), |leader| leader.to_string());
            format!("saves the promise of epoch {} to {leader}", hard.promised.epoch)
        }
        Write::Append(appended) => format!("writes {}", entries(appended)),
        Write::Truncate { after } => format!("truncates its log after {after}"),
        Write::Install { meta, log } => {
            format!("installs the snapshot at {}, its log {log:?}", at(meta.last))
        }
    }
}

pub(crate) fn notice(notice: &Notice) -> String {
    match notice {
        Notice::Leads { epoch } => format!("serves in epoch {epoch}"),
        Notice::StepsDown { epoch } => format!("steps down from epoch {epoch}"),
        Notice::Record(new) => format!("knows the record {}", record(new)),
        Notice::Frozen(why) => format!("freezes: {why}"),
        Notice::Unfrozen { generation } => format!("thaws into generation {generation}"),
        Notice::Quarantined { index } => format!("is quarantined: it differs at {index}"),
        Notice::Released => "is released from quarantine".into(),
        Notice::Dropped(what) => format!("drops {what}"),
        Notice::Happened(rare) => format!("({rare:?})"),
        Notice::Halted(why) => format!("halts: {why}"),
    }
}

pub(crate) fn refusal(refusal: Refusal) -> String {
    match refusal {
        Refusal::NotLeader { leader: Some(leader) } => format!("refused, ask {leader}"),
        Refusal::NotLeader { leader: None } => "refused, there is no leader".into(),
        Refusal::NotReady => "refused, not ready".into(),
        Refusal::Overloaded => "refused, overloaded".into(),
        Refusal::TimedOut => "timed out".into(),
        Refusal::Lost => "LOST".into(),
        Refusal::OutOfService => "refused, out of service".into(),
        Refusal::Malformed => "refused, malformed".into(),
    }
}

pub(crate) fn message(message: &Message) -> String {
    let body = match &message.body {
        Body::Open => "where does your log end?".into(),
        Body::Last { last, reinstall: false } => format!("my log ends at {}", at(*last)),
        Body::Last { last, reinstall: true } => format!("my log ends at {}, I need a snapshot", at(*last)),
        Body::Match { end, .. } => format!("my epoch {} ends at {}", end.epoch, end.index),
        Body::Append { previous, entries: sent, commit } => {
            format!("append {} after {}, commit {commit}", entries(sent), at(*previous))
        }
        Body::Durable { index, applied, rebuild } => {
            let wish = if rebuild.is_some() { ", I have to rebuild" } else { "" };
            format!("durable up to {index}, applied {}{wish}", applied.map_or(0, |(index, _)| index.0))
        }
        Body::Snapshot { meta, replace } => {
            format!(
                "fetch my snapshot at {}{}",
                at(meta.last),
                if *replace { " to replace yours" } else { "" }
            )
        }
        Body::Beacon { round, commit } => format!("I lead, round {round}, commit {commit}"),
        Body::BeaconAnswer { round, lease } => {
            format!("I follow, round {round}{}", if *lease { ", with a lease" } else { ", without a lease" })
        }
        Body::AskCommit { question } => format!("what is committed? (question {question})"),
        Body::TellCommit { question, commit } => format!("committed up to {commit} (question {question})"),
        Body::Campaign => "have yourself elected".into(),
        Body::Diverged { index } => format!("you differ at {index}"),
        Body::Refused { promised } => format!("I promised epoch {promised}"),
    };
    match message.fence.stream.0 {
        0 => format!("epoch {}: {body}", message.fence.epoch),
        stream => format!("epoch {}, stream {stream}: {body}", message.fence.epoch),
    }
}

fn leader(leader: Option<NodeId>) -> String {
    leader.map_or("nobody".into(), |leader| leader.to_string())
}

/// A store's own number, or the last digits of the random one that a swap brought.
fn life(incarnation: Incarnation) -> String {
    match incarnation.0 {
        small @ 0..1000 => small.to_string(),
        large => format!("#{:04x}", large & 0xffff),
    }
}

fn members(record: &GroupRecord) -> String {
    list(record.members.iter().map(|member| {
        let kind = if member.kind == MemberKind::Learner { " learner" } else { "" };
        format!("{}/{}{kind}", member.node, life(member.incarnation))
    }))
}

pub(crate) fn record(record: &GroupRecord) -> String {
    format!(
        "epoch {}, generation {}, leader {}, isr {}, elr {}, min_isr {}, members {}",
        record.epoch,
        record.generation,
        leader(record.leader),
        list(&record.isr),
        list(&record.elr),
        record.min_isr,
        members(record)
    )
}

/// What is new in a record.
pub(crate) fn changes(old: Option<&GroupRecord>, new: &GroupRecord) -> String {
    let Some(old) = old else { return record(new) };
    let mut changes = Vec::new();
    let mut change = |name: &str, old: String, new: String| {
        if old != new {
            changes.push(format!("{name} {old} -> {new}"));
        }
    };
    change("epoch", old.epoch.to_string(), new.epoch.to_string());
    change("generation", old.generation.to_string(), new.generation.to_string());
    change("leader", leader(old.leader), leader(new.leader));
    if old.leader == new.leader {
        change("boot", old.leader_boot.to_string(), new.leader_boot.to_string());
        change("lease", old.leader_lease.to_string(), new.leader_lease.to_string());
    }
    change("isr", list(&old.isr), list(&new.isr));
    change("elr", list(&old.elr), list(&new.elr));
    change("min_isr", old.min_isr.to_string(), new.min_isr.to_string());
    change("members", members(old), members(new));
    if changes.is_empty() { "nothing".into() } else { changes.join(", ") }
}

pub(crate) fn view(node: NodeId, view: &View) -> String {
    let role = match view.role {
        RoleKind::Leader if view.serving => format!("leads epoch {}", view.promised.epoch),
        RoleKind::Leader => format!("leads epoch {}, not serving yet", view.promised.epoch),
        RoleKind::Follower => {
            format!("follows {} in epoch {}", leader(view.promised.leader), view.promised.epoch)
        }
        RoleKind::Halted => "has halted".into(),
    };
    let mut line = format!(
        "{node}: {role}, log to {}, durable {}, commit {}, applied {}",
        at(view.last),
        view.durable,
        view.commit,
        view.applied
    );
    let mut add = |shown: bool, text: String| {
        if shown {
            line += &format!(", {text}");
        }
    };
    add(view.base.index.0 > 0, format!("log from behind {}", at(view.base)));
    add(view.incarnation.0 != node.0, format!("incarnation {}", life(view.incarnation)));
    add(view.generation.0 > 1, format!("generation {}", view.generation));
    let sets = |nodes: &BTreeSet<_>| list(nodes.iter().map(|(node, _): &(NodeId, _)| *node));
    if let Some(record) = view.record.as_ref().filter(|_| view.role == RoleKind::Leader) {
        add(view.maximal_isr.len() > record.isr.len(), format!("maximal isr {}", sets(&view.maximal_isr)));
        add(view.maximal_elr.len() > record.elr.len(), format!("maximal elr {}", sets(&view.maximal_elr)));
    }
    add(!view.established, "not established".into());
    add(view.frozen, "frozen".into());
    add(view.quarantined.is_some(), format!("quarantined at {}", view.quarantined.unwrap_or_default()));
    line
}
