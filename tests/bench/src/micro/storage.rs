//! Log and state store on a real disk.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use mortise_core::ids::{Epoch, Installation, TenantId};
use mortise_core::layer::Layer;
use mortise_storage::disk::RealDisk;
use mortise_storage::log::{Log, LogOptions, LogRecord};
use mortise_storage::state::{StateDb, StateDbOptions, StateId};
use tempfile::TempDir;

use super::key;
use crate::VALUE_BYTES;
use crate::disk::{Reference, Space};
use crate::report::Report;
use crate::samples::Samples;

/// Appends of each size.
const APPENDS: usize = 400;
/// Batches of each size.
const BATCHES: usize = 300;

/// Measures both in `folder`.
pub(super) fn measure(report: &mut Report, folder: &TempDir) -> Result<()> {
    for kib in [4, 64] {
        log(report, folder, kib)?;
    }
    for puts in [1, 256, 1024] {
        state(report, folder, puts)?;
    }
    Ok(())
}

fn log(report: &mut Report, folder: &TempDir, kib: usize) -> Result<()> {
    let disk = Arc::new(RealDisk::open(folder.path())?);
    let options = LogOptions { folder: format!("log-{kib}"), ..LogOptions::default() };
    let (mut log, _) = Log::open(disk, options)?;
    let mut written = Reference::create(&folder.path().join(format!("written-{kib}")), Space::Written)?;
    let mut reserved = Reference::create(&folder.path().join(format!("reserved-{kib}")), Space::Reserved)?;
    let payload = Bytes::from(vec![0x61; kib << 10]);
    let [mut ours, mut over_zeros, mut over_reserved] = [(); 3].map(|()| Samples::default());
    for append in 0..APPENDS {
        let record = LogRecord { epoch: Epoch(1), index: log.last_index().next(), payload: payload.clone() };
        let start = Instant::now();
        log.append(std::slice::from_ref(&record))?;
        log.sync()?;
        let took = start.elapsed();
        // As the node does when nothing waits to be appended.
        log.fill_ahead()?;
        let (zeros, space) = (written.write(&payload)?, reserved.write(&payload)?);
        if append >= APPENDS / 10 {
            ours.add_us(took, 1);
            over_zeros.add_us(zeros, 1);
            over_reserved.add_us(space, 1);
        }
    }
    let section = format!("log, records of {kib} KiB, each made durable");
    report.samples(&section, "append and sync", &ours, "µs");
    report.samples(&section, "the machine: write and fdatasync over zeros", &over_zeros, "µs");
    report.samples(&section, "the machine: the same into reserved space", &over_reserved, "µs");
    Ok(())
}

fn state(report: &mut Report, folder: &TempDir, puts: usize) -> Result<()> {
    let db = StateDb::open(&folder.path().join(format!("state-{puts}")), StateDbOptions::default())?;
    let value = Bytes::from(vec![0x61; VALUE_BYTES]);
    let mut commits = Samples::default();
    for round in 0..BATCHES {
        let mut layer = Layer::default();
        for put in 0..puts {
            layer.put(key((round * puts + put) as u64), value.clone());
        }
        let start = Instant::now();
        let mut batch = db.batch(StateId(1));
        batch.apply(Installation(1), TenantId(1), &layer)?;
        batch.commit()?;
        commits.add_us(start.elapsed(), puts);
    }
    report.samples("state store, without fsync", format!("a batch of {puts} puts"), &commits, "µs/put");
    Ok(())
}
