//! `mortise verify`: reads everything in a data folder that no process uses.

use std::path::Path;
use std::sync::Arc;

use mortise_core::digest::{StateDigest, state_digest};
use mortise_core::entry::Entry;
use mortise_core::ids::LogIndex;
use mortise_core::replica::HardState;
use mortise_core::time::LogTime;
use mortise_runtime::Runtime;
use mortise_storage::disk::Disk;
use mortise_storage::snapshot::list_snapshots;
use mortise_storage::{
    Current, DataFolder, Log, LogOptions, LogReader, SmallFile, SnapshotInfo, SnapshotReader, StateDb,
    StateDbOptions, StateId,
};

use super::open::StartError;
use super::tables::Tables;
use super::writer::HARD_STATE_FILE;

/// Bytes of log read at once.
const READ_BYTES: usize = 8 << 20;

/// What a data folder holds, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// First and last index of the log.
    pub log: (LogIndex, LogIndex),
    /// Entries read and decoded.
    pub entries: u64,
    /// Bytes of a torn tail that was cut: writes that no fsync covered.
    pub torn_bytes: u64,
    /// The last index that the state holds.
    pub applied: LogIndex,
    /// Every tenant's state.
    pub tenants: Vec<TenantReport>,
    /// Every snapshot, with its size and digest.
    pub snapshots: Vec<(String, SnapshotInfo)>,
    /// What is wrong; empty: nothing.
    pub problems: Vec<String>,
}

/// A tenant's state.
#[derive(Clone, Debug)]
pub struct TenantReport {
    /// Its name.
    pub name: String,
    /// Commands and expirations applied.
    pub commands: u64,
    /// Its chain of effect digests, in hexadecimal.
    pub effect_digest: String,
    /// Its state, every pair of it read.
    pub state: StateDigest,
}

/// Reads log, state, snapshots and the small files of the data folder, every checksum, and digests every tenant's state. Changes
/// nothing, but for what every start does: it cuts a torn tail of the log, which no fsync ever covered.
///
/// # Errors
/// The folder is in use or none of ours. What is damaged inside goes into the report.
pub fn verify(path: &Path, runtime: &Runtime) -> Result<VerifyReport, StartError> {
    let folder = DataFolder::open_existing(path)?;
    let disk = folder.disk();
    let mut report = VerifyReport::default();
    let current = Current::read(&disk)?;
    let layout = LogOptions { folder: current.log_folder(), ..LogOptions::default() };
    let log = match Log::open(disk.clone(), layout) {
        Ok((log, recovery)) => {
            report.torn_bytes = recovery.torn.map_or(0, |torn| torn.bytes);
            report.log = (log.first_index(), log.last_index());
            verify_log(&log.reader(), &mut report);
            true
        }
        Err(error) => {
            report.problems.push(format!("log: {error}"));
            false
        }
    };
    if let Err(error) = verify_hard_state(&disk, report.log.1) {
        report.problems.push(error.to_string());
    }
    for name in list_snapshots(disk.as_ref())? {
        match SnapshotReader::open(disk.as_ref(), &name).and_then(SnapshotReader::verify) {
            Ok(info) => report.snapshots.push((name, info)),
            Err(error) => report.problems.push(format!("snapshot {name}: {error}")),
        }
    }
    match StateDb::open(&folder.state_path(), StateDbOptions::default()) {
        Ok(db) => verify_state(&db, current.state, runtime, &mut report),
        Err(error) => report.problems.push(format!("state: {error}")),
    }
    if log && report.applied > report.log.1 {
        let (applied, last) = (report.applied, report.log.1);
        report.problems.push(format!("the state holds entry {applied}, the log ends at {last}"));
    }
    if log && report.applied.next() < report.log.0 {
        let (applied, first) = (report.applied, report.log.0);
        report.problems.push(format!("the state ends at entry {applied}, the log begins at {first}"));
    }
    Ok(report)
}

/// What the core has to remember of its group. It is there from the first start on; a folder whose log is empty may have
/// come no further than that.
fn verify_hard_state(disk: &Arc<dyn Disk>, last: LogIndex) -> Result<(), StartError> {
    match SmallFile::new(disk.clone(), HARD_STATE_FILE).read()? {
        Some(bytes) => HardState::decode(bytes).map(drop).map_err(StartError::from),
        None if last > LogIndex(0) => Err(StartError::HardStateLost { last }),
        None => Ok(()),
    }
}

fn verify_log(log: &LogReader, report: &mut VerifyReport) {
    let (mut next, last) = report.log;
    let mut time = LogTime(0);
    while next <= last {
        let records = match log.read(next, READ_BYTES) {
            Ok(records) => records,
            Err(error) => return report.problems.push(format!("log: {error}")),
        };
        for record in records {
            match Entry::decode(record.epoch, record.index, record.payload) {
                Ok(entry) if entry.time < time => {
                    report.problems.push(format!("log: the time of entry {} goes back", entry.index));
                }
                Ok(entry) => time = entry.time,
                Err(error) => report.problems.push(format!("log: entry {}: {error}", record.index)),
            }
            report.entries += 1;
            next = record.index.next();
        }
    }
}

fn verify_state(db: &StateDb, state: StateId, runtime: &Runtime, report: &mut VerifyReport) {
    let tables = match Tables::read(db, state, &|bytes| runtime.load_accepted(bytes)) {
        Ok(tables) => tables,
        Err(error) => return report.problems.push(format!("state: {error}")),
    };
    report.applied = tables.applied.index;
    for (id, tenant) in &tables.tenants {
        match state_digest(db.reader(state, tenant.installation, *id).as_ref()) {
            Ok(state) => report.tenants.push(TenantReport {
                name: tenant.name.clone(),
                commands: tenant.sequence,
                effect_digest: tenant.digest.to_string(),
                state,
            }),
            Err(error) => report.problems.push(format!("state of tenant {}: {error}", tenant.name)),
        }
    }
}
