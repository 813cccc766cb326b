//! What every plugin owes its host, whatever it stores.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use mortise_core::outcome::Outcome;
use mortise_core::profile::Profile;

use crate::Tenant;
use crate::garbage::garbage;

/// What [`conformance`] saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Examples of the manifest that were applied.
    pub examples_applied: usize,
    /// Examples that were refused.
    pub examples_rejected: usize,
    /// Garbage commands that were refused.
    pub garbage_rejected: usize,
    /// Garbage commands that happened to mean something.
    pub garbage_applied: usize,
    /// Most fuel that one of these commands used.
    pub fuel_max: u64,
}

/// Checks a component:
///
/// - it loads, its manifest is in order, and a tenant of it can be created;
/// - its examples are applied, or refused with a code; the first one is applied;
/// - garbage (from `seed`) is refused and nothing else: it never traps or passes a limit, as command or as request;
/// - what `validate` refuses, `apply` refuses too;
/// - it is deterministic and hermetic: the same commands, in other entries, give the same digests;
/// - a snapshot, restored, is the state.
///
/// # Errors
/// The first of these that does not hold, and for which command.
pub fn conformance(component: &[u8], seed: u64) -> Result<Report> {
    let mut tenant = Tenant::load(component)?;
    let examples: Vec<Bytes> =
        tenant.manifest().examples.iter().map(|(_, command)| command.clone()).collect();
    let mut report = Report::default();
    check_examples(&mut tenant, &mut report)?;
    tenant.assert_restorable().context("after the examples")?;
    let garbage = garbage(seed, &examples);
    check_garbage(&mut tenant, &garbage, &mut report).with_context(|| format!("garbage of seed {seed}"))?;
    tenant.assert_restorable().context("after the garbage")?;
    // Examples again and again, so that what one leaves in memory meets another.
    let examples = || examples.iter().map(Bytes::as_ref);
    let garbage = garbage.iter().map(Vec::as_slice);
    let commands: Vec<&[u8]> = examples().chain(examples()).chain(garbage).chain(examples()).collect();
    check_determinism(&tenant, &commands)?;
    Ok(report)
}

fn check_examples(tenant: &mut Tenant, report: &mut Report) -> Result<()> {
    for (number, (name, command)) in tenant.manifest().examples.clone().iter().enumerate() {
        match checked(tenant, command, report).with_context(|| format!("example {name:?}"))? {
            Outcome::Applied(_) => report.examples_applied += 1,
            Outcome::Rejected(rejection) => {
                ensure!(number > 0, "the first example {name:?} is refused by a new tenant: {rejection}");
                report.examples_rejected += 1;
            }
            Outcome::Failed(failure) => bail!("example {name:?} fails: {failure}; {:?}", tenant.last_logs()),
        }
    }
    Ok(())
}

fn check_garbage(tenant: &mut Tenant, garbage: &[Vec<u8>], report: &mut Report) -> Result<()> {
    for bytes in garbage {
        let head = &bytes[..bytes.len().min(64)];
        match checked(tenant, bytes, report).with_context(|| format!("command {head:?}"))? {
            Outcome::Applied(_) => report.garbage_applied += 1,
            Outcome::Rejected(_) => report.garbage_rejected += 1,
            Outcome::Failed(failure) => bail!("command {head:?} fails: {failure}; {:?}", tenant.last_logs()),
        }
        if let Outcome::Failed(failure) = tenant.query(bytes) {
            bail!("request {head:?} fails: {failure}; {:?}", tenant.last_logs());
        }
    }
    Ok(())
}

/// Validates and applies a command, and compares the two.
fn checked(tenant: &mut Tenant, command: &[u8], report: &mut Report) -> Result<Outcome> {
    let validated = tenant.validate(command);
    let before = tenant.state_digest();
    let outcome = tenant.apply(command);
    report.fuel_max = report.fuel_max.max(tenant.last_fuel());
    if let Err(refusal) = validated {
        ensure!(!outcome.took_effect(), "validate refuses it ({refusal:?}), but apply does not");
    }
    if let Outcome::Rejected(rejection) = &outcome {
        ensure!(before == tenant.state_digest(), "it is refused, but changes the state");
        let is_snake = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        let code = &rejection.code;
        ensure!(
            !code.is_empty() && code.bytes().all(is_snake),
            "its rejection's code {code:?} is not snake_case"
        );
    }
    Ok(outcome)
}

/// One command an entry, all in one entry, and many an entry, must come to the same.
fn check_determinism(tenant: &Tenant, commands: &[&[u8]]) -> Result<()> {
    let mut results = Vec::new();
    for entry_len in [1, commands.len().max(1), 7] {
        let mut other = Tenant::new(tenant.plugin().clone(), Profile::default())?;
        let done: Vec<_> = commands.chunks(entry_len).flat_map(|entry| other.entry(entry)).collect();
        results.push((done, other.state_digest(), other.due()));
    }
    let first = &results[0];
    for other in &results[1..] {
        if let Some(at) = (0..commands.len()).find(|at| first.0[*at] != other.0[*at]) {
            bail!(
                "command {at} has another outcome or other writes when entries are cut otherwise: {:?} and {:?}; does the \
                 plugin keep something in memory?",
                first.0[at],
                other.0[at]
            );
        }
        ensure!(first == other, "the same commands give another state when entries are cut otherwise");
    }
    Ok(())
}

impl Tenant {
    /// [`Tenant::assert_snapshot_roundtrip`] as an error.
    fn assert_restorable(&mut self) -> Result<()> {
        let (before, due) = (self.state_digest(), self.due());
        let snapshot = self.snapshot().context("take a snapshot")?;
        self.restore(&snapshot).context("restore a snapshot")?;
        ensure!(before == self.state_digest(), "the restored state is not the one the snapshot was taken of");
        ensure!(due == self.due(), "restore sets another due time");
        Ok(())
    }
}
