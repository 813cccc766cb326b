//! `apply` of kv puts through the compiled plugin, and the same natively beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mortise_core::digest::{Context, Digest};
use mortise_core::profile::Profile;
use mortise_core::state::EmptyState;
use mortise_core::time::LogTime;
use mortise_runtime::{Applier, Plugin};

use super::{Put, native, puts};
use crate::report::{Report, Target};
use crate::samples::Samples;

/// The entry for which the target holds.
const TARGET_COMMANDS: usize = 256;
/// µs a command.
const TARGET_US: f64 = 1.0;
/// Calls of each kind in [`calls`].
const CALLS: usize = 20_000;

/// Entries of `commands` commands each, `rounds` times.
pub(super) fn measure(report: &mut Report, plugin: &Plugin, commands: usize, rounds: usize) -> Result<()> {
    let limits = Arc::new(Profile::default());
    let mut applier = plugin.applier(&limits);
    let [mut warming, mut calling, mut whole] = [(); 3].map(|()| Samples::default());
    let [mut natively, mut overlay] = [(); 2].map(|()| Samples::default());
    let warm_up = rounds / 10 + 1;
    for round in 0..warm_up + rounds {
        let puts = puts(round, commands);
        let (warm, calls) = entry(&mut applier, &puts)?;
        let (with_logic, without) = (native::entry(&puts)?, native::overlay_and_digest(&puts));
        if round >= warm_up {
            warming.add_us(warm, 1);
            calling.add_us(calls, commands);
            whole.add_us(warm + calls, commands);
            natively.add_us(with_logic, commands);
            overlay.add_us(without, commands);
        }
    }
    let section = format!("apply of one kv put, entries of {commands}; overlay and digest included");
    report.samples(&section, "plugin, with its share of the instance", &whole, "µs/command");
    if commands == TARGET_COMMANDS {
        report.target(Target::AtMost(TARGET_US));
    }
    report.samples(&section, "plugin, the calls alone", &calling, "µs/command");
    report.samples(&section, "natively: the same kv logic, overlay, digest", &natively, "µs/command");
    report.samples(&section, "natively: overlay and digest alone", &overlay, "µs/command");
    report.value(&section, "plugin against native kv", whole.p50() / natively.p50(), "times");
    report.samples(&section, "a fresh instance", &warming, "µs/entry");
    Ok(())
}

/// One entry: how long its instance took, and its calls.
fn entry(applier: &mut Applier, puts: &[Put]) -> Result<(Duration, Duration)> {
    let start = Instant::now();
    applier.warm()?;
    let warm = start.elapsed();
    let start = Instant::now();
    let mut calls = applier.begin(Arc::new(EmptyState), Digest::default())?;
    for (sequence, put) in (1..).zip(puts) {
        let applied = calls.apply(&context(sequence), &put.command)?;
        ensure!(applied.outcome.took_effect(), "a put was refused: {:?}", applied.outcome);
    }
    drop(calls.finish());
    Ok((warm, start.elapsed()))
}

/// Calls that do next to nothing: what it costs to enter the guest and to come back.
pub(super) fn calls(report: &mut Report, plugin: &Plugin) -> Result<()> {
    let limits = Arc::new(Profile::default());
    let (mut expires, mut validates) = (Samples::default(), Samples::default());
    let puts = puts(0, 1);
    let mut applier = plugin.applier(&limits);
    let mut calls = applier.begin(Arc::new(EmptyState), Digest::default())?;
    let mut reader = plugin.reader(&limits);
    for call in 0..CALLS {
        let start = Instant::now();
        let expired = calls.expire(&context(1))?;
        let expire = start.elapsed();
        ensure!(expired.outcome.took_effect(), "expire failed: {:?}", expired.outcome);
        let mut validate = Duration::ZERO;
        for put in &puts {
            let start = Instant::now();
            let valid = reader.validate(Arc::new(EmptyState), &context(1), &put.command)?;
            validate = start.elapsed();
            ensure!(valid.is_ok(), "a put is not valid: {valid:?}");
        }
        if call >= CALLS / 10 {
            expires.add_us(expire, 1);
            validates.add_us(validate, 1);
        }
    }
    let section = "calls of the guest";
    report.samples(section, "expire with nothing due (one scan of nothing; digest included)", &expires, "µs");
    report.samples(section, "validate of a put", &validates, "µs");
    Ok(())
}

/// What the host tells a command, for a tenant's command number `sequence`.
pub(super) fn context(sequence: u64) -> Context {
    Context { sequence, time: LogTime(1_700_000_000_000), principal: None }
}
