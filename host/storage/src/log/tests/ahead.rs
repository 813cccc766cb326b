//! Zeros ahead of the records: they must speed up appends and change nothing else.

use super::*;

const FIRST: &str = "log/00000000000000000001.log";

fn filled(log: &Log) -> (u64, u64) {
    log.shared.with_active(|active| (active.end, active.filled))
}

fn large_segments() -> LogOptions {
    LogOptions { segment_bytes: 4 << 20, ..LogOptions::default() }
}

#[test]
fn zeros_are_written_and_synced_ahead_of_the_records_and_again_when_few_are_left() {
    let disk = FaultyDisk::new();
    let (mut log, _) = Log::open(Arc::new(disk.clone()), large_segments()).unwrap();
    let mut fills = 0;
    for index in 1..=1000 {
        let syncs = disk.syncs();
        log.fill_ahead().unwrap();
        fills += disk.syncs() - syncs;
        let (end, filled) = filled(&log);
        assert!(filled - end > 250 << 10, "at record {index}");
        assert!(disk.is_synced(FIRST, end..filled), "at record {index}");
        let record = LogRecord { epoch: Epoch(1), index: LogIndex(index), payload: vec![7; 1000].into() };
        log.append(&[record]).unwrap();
        log.sync().unwrap();
    }
    // 1,000 records with a mark each take 1,080,000 bytes. A slice has 256 KiB, and two are needed at first.
    assert_eq!(fills, 6);
}

#[test]
fn zeros_never_reach_beyond_the_segment() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    let bytes = log.bytes();
    for index in 1..=100 {
        log.fill_ahead().unwrap();
        log.append(&records([index])).unwrap();
        log.sync().unwrap();
        assert!(log.bytes().is_multiple_of(bytes));
    }
    drop(log);
    disk.crash_losing_all();
    assert_eq!(all(&open(&disk).0), records(1..=100));
}

#[test]
fn nothing_is_written_while_records_wait_for_their_sync() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records([1])).unwrap();
    let (before, syncs) = (filled(&log), disk.syncs());
    log.fill_ahead().unwrap();
    assert_eq!((filled(&log), disk.syncs()), (before, syncs));
}

#[test]
fn nothing_is_written_behind_a_large_append() {
    let disk = FaultyDisk::new();
    let (mut log, _) = Log::open(Arc::new(disk.clone()), large_segments()).unwrap();
    for (index, bytes, fills) in [(1, 129 << 10, 0), (2, 1, 1)] {
        let record = LogRecord { epoch: Epoch(1), index: LogIndex(index), payload: vec![7; bytes].into() };
        log.append(&[record]).unwrap();
        log.sync().unwrap();
        let syncs = disk.syncs();
        log.fill_ahead().unwrap();
        assert_eq!(disk.syncs() - syncs, fills);
    }
}

#[test]
fn a_failed_write_of_zeros_is_no_error_and_is_not_tried_again() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records([1])).unwrap();
    log.sync().unwrap();
    disk.fail_writes(1);
    log.fill_ahead().unwrap();
    let syncs = disk.syncs();
    log.fill_ahead().unwrap();
    assert_eq!(disk.syncs(), syncs);
    log.append(&records([2])).unwrap();
    log.sync().unwrap();
    disk.crash_losing_all();
    assert_eq!(all(&open(&disk).0), records(1..=2));
}

#[test]
fn a_failed_fsync_of_zeros_poisons_the_log() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records([1])).unwrap();
    log.sync().unwrap();
    disk.fail_syncs(1);
    assert!(matches!(log.fill_ahead(), Err(LogError::Poisoned { .. })));
    assert!(matches!(log.append(&records([2])), Err(LogError::Poisoned { .. })));
    drop(log);
    disk.crash_losing_all();
    assert_eq!(all(&open(&disk).0), records([1]));
}
