//! What happened, as a digest for comparing two runs and as lines for people.

use std::hash::{Hash, Hasher};

use mortise_core::group::{GroupRecord, NodeId};
use mortise_core::replica::{Body, CoordinatorRequest, Effect, Event, LogEntry, Message, Position, Write};

/// A hash that is the same in every run, unlike the standard library's: FNV-1a over words, with a final mix.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    pub(crate) fn add<T: Hash + ?Sized>(&mut self, what: &T) {
        what.hash(self);
    }

    pub(crate) fn value(&self) -> u64 {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.value()
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 56));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

/// What a run leaves of its course.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// Nothing.
    #[default]
    Off,
    /// A digest of every event and effect.
    Digest,
    /// The digest, and a line for each on standard output.
    Print,
}

/// Takes down what happens.
#[derive(Debug)]
pub(crate) struct Trace {
    tracing: Tracing,
    print: Fingerprint,
}

impl Trace {
    pub(crate) fn new(tracing: Tracing) -> Self {
        Self { tracing, print: Fingerprint::default() }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.print.value()
    }

    pub(crate) fn event(&mut self, now: u64, node: NodeId, event: &Event) {
        if self.tracing == Tracing::Off {
            return;
        }
        self.print.add(&(now, node, event));
        if self.tracing == Tracing::Print && !matches!(event, Event::Tick) {
            line(now, &format!("node {node} <- {}", of_event(event)));
        }
    }

    pub(crate) fn effect(&mut self, now: u64, node: NodeId, effect: &Effect) {
        if self.tracing == Tracing::Off {
            return;
        }
        self.print.add(effect);
        if self.tracing == Tracing::Print {
            line(now, &format!("node {node}    -> {}", of_effect(effect)));
        }
    }

    /// Something that the world does; `what` is only asked for where it is printed.
    pub(crate) fn note(&mut self, now: u64, what: impl FnOnce() -> String) {
        if self.tracing == Tracing::Print {
            line(now, &format!("------ {}", what()));
        }
    }
}

fn line(now: u64, what: &str) {
    println!("{:>10}.{:03} ms  {what}", now / 1000, now % 1000);
}

fn at(position: Position) -> String {
    format!("{}/{}", position.epoch, position.index)
}

fn entries(entries: &[LogEntry]) -> String {
    match (entries.first(), entries.last()) {
        (Some(first), Some(last)) => format!("{}..={}", at(first.at), at(last.at)),
        _ => "nothing".into(),
    }
}

pub(crate) fn of_record(record: &GroupRecord) -> String {
    let set = |nodes: &std::collections::BTreeSet<NodeId>| {
        nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
    };
    let members: Vec<_> = record
        .members
        .iter()
        .map(|member| format!("{}.{:04x}{}", member.node, member.incarnation.0 & 0xffff, kind(member.kind)))
        .collect();
    let leader = record.leader.map_or("-".into(), |leader| leader.to_string());
    format!(
        "epoch {} gen {} leader {leader} boot {} min {} members {} isr {{{}}} elr {{{}}} nonce {:04x}",
        record.epoch,
        record.generation,
        record.leader_boot,
        record.min_isr,
        members.join(","),
        set(&record.isr),
        set(&record.elr),
        record.nonce.0 & 0xffff
    )
}

fn kind(kind: mortise_core::group::MemberKind) -> &'static str {
    match kind {
        mortise_core::group::MemberKind::Voter => "",
        mortise_core::group::MemberKind::Learner => "L",
    }
}

fn of_message(message: &Message) -> String {
    let fence = &message.fence;
    let body = match &message.body {
        Body::Append { previous, entries: sent, commit } => {
            format!("Append after {} {} commit {commit}", at(*previous), entries(sent))
        }
        Body::Durable { index, .. } => format!("Durable {index}"),
        Body::Last { last, .. } => format!("Last {}", at(*last)),
        Body::Match { last, end } => format!("Match {} for {}", at(*end), at(*last)),
        Body::Snapshot { meta, replace } => format!("Snapshot {} replace {replace}", at(meta.last)),
        other => format!("{other:?}"),
    };
    format!(
        "{body} [gen {} epoch {} boot {} inc {:04x}->{:04x} stream {}]",
        fence.generation,
        fence.epoch,
        fence.boot,
        fence.from.0 & 0xffff,
        fence.to.0 & 0xffff,
        fence.stream.0
    )
}

fn of_event(event: &Event) -> String {
    match event {
        Event::Message { from, message } => format!("from {from}: {}", of_message(message)),
        Event::Propose(proposal) => format!("Propose {} {:?}", proposal.id.0, proposal.ack),
        Event::LogRead { peer, entries: read, .. } => format!("LogRead for {peer}: {}", entries(read)),
        Event::Applied { index, .. } => format!("Applied {index}"),
        Event::RecordChanged(seen) => format!("RecordChanged {}", of_seen(Some(seen))),
        Event::RecordRead { request, seen } => format!("RecordRead {request} {}", of_seen(seen.as_ref())),
        Event::SnapshotTaken(meta) => format!("SnapshotTaken {}", at(meta.last)),
        Event::SnapshotFetched(meta) => format!("SnapshotFetched {}", at(meta.last)),
        Event::Swapped { nonce, outcome } => {
            let outcome = match outcome {
                mortise_core::replica::SwapOutcome::Applied(seen) => {
                    format!("applied {}", of_seen(Some(seen)))
                }
                mortise_core::replica::SwapOutcome::Refused(seen) => {
                    format!("refused {}", of_seen(Some(seen)))
                }
                mortise_core::replica::SwapOutcome::Unknown => "unknown".into(),
            };
            format!("Swapped {:04x} {outcome}", nonce.0 & 0xffff)
        }
        other => format!("{other:?}"),
    }
}

fn of_seen(seen: Option<&mortise_core::replica::Seen>) -> String {
    let Some(seen) = seen else { return "no answer".into() };
    let record = seen.record.as_ref().map_or("no record".into(), of_record);
    format!("coordinator {} revision {}/{}: {record}", seen.coordinator, seen.mod_revision, seen.revision)
}

fn of_effect(effect: &Effect) -> String {
    match effect {
        Effect::Send { to, message } => format!("to {to}: {}", of_message(message)),
        Effect::Write(id, write) => {
            let what = match write {
                Write::Append(appended) => format!("Append {}", entries(appended)),
                Write::Save(hard) => format!(
                    "Save inc {:04x} promised {}/{:?} gen {} frozen {} quarantined {:?}",
                    hard.incarnation.0 & 0xffff,
                    hard.promised.epoch,
                    hard.promised.leader.map(|leader| leader.0),
                    hard.generation,
                    hard.frozen,
                    hard.quarantined
                ),
                Write::Truncate { after } => format!("Truncate after {after}"),
                Write::Install { meta, log } => format!("Install {} {log:?}", at(meta.last)),
            };
            format!("Write {} {what}", id.0)
        }
        Effect::Coordinate(CoordinatorRequest::Swap { expected, record }) => {
            let expected = expected.map(|(revision, nonce)| format!("{revision}/{:04x}", nonce.0 & 0xffff));
            format!("Swap {expected:?} -> {}", of_record(record))
        }
        Effect::FetchSnapshot { from, meta } => format!("FetchSnapshot from {from} {}", at(meta.last)),
        Effect::Notice(mortise_core::replica::Notice::Record(record)) => {
            format!("Record {}", of_record(record))
        }
        other => format!("{other:?}"),
    }
}
