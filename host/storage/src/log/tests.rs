mod ahead;
mod damage;
mod faults;
mod model;

use std::sync::Arc;

use bytes::Bytes;
use mortise_core::ids::{Epoch, LogIndex};

use super::{Log, LogError, LogOptions, LogRecord, Recovery};
use crate::disk::{Disk, FaultyDisk, MemoryDisk, RealDisk};

fn options() -> LogOptions {
    LogOptions { segment_bytes: 4096, ..LogOptions::default() }
}

fn open(disk: &(impl Disk + Clone + 'static)) -> (Log, Recovery) {
    Log::open(Arc::new(disk.clone()), options()).unwrap()
}

/// A record whose content follows from its index.
fn record(index: u64) -> LogRecord {
    let length = (index * 37 % 300) as usize;
    let payload: Vec<u8> = (0..length).map(|place| (index as usize * 7 + place) as u8).collect();
    LogRecord { epoch: Epoch(1 + index / 10), index: LogIndex(index), payload: payload.into() }
}

fn records(indexes: impl IntoIterator<Item = u64>) -> Vec<LogRecord> {
    indexes.into_iter().map(record).collect()
}

fn all(log: &Log) -> Vec<LogRecord> {
    log.reader().read(log.first_index(), usize::MAX).unwrap()
}

#[test]
fn records_come_back_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let (mut log, recovery) = open(&disk);
    assert_eq!((recovery.first_index, recovery.last_index), (LogIndex(1), LogIndex(0)));
    for start in (1..100).step_by(3) {
        log.append(&records(start..start + 3)).unwrap();
        log.sync().unwrap();
    }
    let bytes = log.bytes();
    drop(log);
    let (log, recovery) = open(&disk);
    assert!(recovery.segments > 3, "{recovery:?}");
    assert_eq!((recovery.torn, recovery.last_epoch), (None, Epoch(10)));
    assert_eq!(log.bytes(), bytes);
    assert_eq!(all(&log), records(1..=99));
}

#[test]
fn a_read_is_bounded_but_gives_at_least_one_record() {
    let (mut log, _) = open(&MemoryDisk::new());
    log.append(&records(1..=50)).unwrap();
    let reader = log.reader();
    assert_eq!(reader.read(LogIndex(7), 0).unwrap(), records([7]));
    let two = record(7).payload.len() + record(8).payload.len();
    assert_eq!(reader.read(LogIndex(7), two).unwrap(), records([7, 8]));
    assert_eq!(reader.read(LogIndex(7), two - 1).unwrap(), records([7]));
    assert_eq!(reader.read(LogIndex(51), usize::MAX).unwrap(), []);
}

#[test]
fn a_reader_on_another_thread_follows_the_writer() {
    let (mut log, _) = open(&MemoryDisk::new());
    let reader = log.reader();
    let follower = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while seen.len() < 500 {
            seen.extend(reader.read(LogIndex(seen.len() as u64 + 1), 1000).unwrap());
        }
        seen
    });
    for index in 1..=500 {
        log.append(&records([index])).unwrap();
    }
    assert_eq!(follower.join().unwrap(), records(1..=500));
}

#[test]
fn records_that_do_not_continue_the_log_are_refused() {
    let (mut log, _) = open(&MemoryDisk::new());
    log.append(&records(1..=20)).unwrap();
    for wrong in [records([20]), records([22]), records([21, 23])] {
        assert!(matches!(log.append(&wrong), Err(LogError::NotContiguous { .. })));
    }
    let stale = LogRecord { epoch: Epoch(2), ..record(21) };
    assert!(matches!(log.append(&[stale]), Err(LogError::NotContiguous { epoch: Epoch(2), .. })));
    assert_eq!(all(&log), records(1..=20));
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    let large = LogRecord { payload: vec![9; 100_000].into(), ..record(1) };
    log.append(std::slice::from_ref(&large)).unwrap();
    log.append(&records([2])).unwrap();
    log.sync().unwrap();
    let (log, _) = open(&disk);
    assert_eq!(all(&log), [large, record(2)]);
    assert_eq!(disk.list("log").unwrap().len(), 2);
}

#[test]
fn a_record_above_the_bound_is_refused() {
    let small = LogOptions { record_bytes_max: 10, ..options() };
    let (mut log, _) = Log::open(Arc::new(MemoryDisk::new()), small).unwrap();
    let large = LogRecord { payload: Bytes::from_static(b"eleven byte"), ..record(1) };
    assert!(matches!(log.append(&[large]), Err(LogError::TooLarge { bytes: 11, max: 10, .. })));
}

#[test]
fn dropping_removes_whole_segments_below() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for index in 1..=200 {
        log.append(&records([index])).unwrap();
    }
    log.sync().unwrap();
    log.drop_below(LogIndex(120)).unwrap();
    let first = log.first_index();
    assert!(first > LogIndex(1) && first <= LogIndex(120), "{first}");
    assert!(matches!(log.reader().read(LogIndex(1), 1), Err(LogError::Dropped { .. })));
    log.drop_below(LogIndex(1000)).unwrap();
    let first = log.first_index();
    let (log, recovery) = open(&disk);
    assert_eq!((recovery.first_index, recovery.segments), (first, 1));
    assert_eq!(all(&log), records(first.0..=200));
}

#[test]
fn truncating_removes_exactly_what_is_after() {
    for index in 0..=100 {
        let disk = FaultyDisk::new();
        let (mut log, _) = open(&disk);
        log.append(&records(1..=50)).unwrap();
        log.append(&records(51..=100)).unwrap();
        log.sync().unwrap();
        log.truncate_after(LogIndex(index)).unwrap();
        disk.crash_losing_all();
        let (mut log, recovery) = open(&disk);
        assert_eq!((recovery.last_index, recovery.torn), (LogIndex(index), None));
        assert_eq!(all(&log), records(1..=index));
        let next = LogRecord { epoch: Epoch(50), ..record(index + 1) };
        log.append(std::slice::from_ref(&next)).unwrap();
        assert_eq!(all(&log).last(), Some(&next));
        assert_eq!(log.last_epoch(), Epoch(50));
    }
}

#[test]
fn the_last_epoch_survives_that_its_record_was_dropped() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records(1..=30)).unwrap();
    let large = LogRecord { payload: vec![1; 4000].into(), ..record(31) };
    log.append(&[large]).unwrap();
    log.sync().unwrap();
    log.drop_below(LogIndex(31)).unwrap();
    log.truncate_after(LogIndex(30)).unwrap();
    assert_eq!((log.first_index(), log.last_index()), (LogIndex(31), LogIndex(30)));
    let (log, recovery) = open(&disk);
    assert_eq!((recovery.last_epoch, log.last_epoch()), (Epoch(4), Epoch(4)));
}

#[test]
fn a_value_that_holds_a_copy_of_a_log_is_no_evidence() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records(1..=5)).unwrap();
    log.sync().unwrap();
    drop(log);
    // A log that has as a value what another log is made of, torn in that very value.
    let other = FaultyDisk::new();
    let (mut log, _) = open(&other);
    let copied = disk.content("log/00000000000000000001.log").unwrap()[..3000].to_vec();
    log.append(&[LogRecord { payload: copied.into(), ..record(1) }]).unwrap();
    drop(log);
    let name = "log/00000000000000000001.log";
    let mut torn = other.content(name).unwrap();
    torn[64..128].fill(0);
    other.put(name, torn);
    let (_, recovery) = open(&other);
    assert_eq!(recovery.last_index, LogIndex(0));
    assert_eq!(recovery.torn.unwrap().frames, 0);
}
