//! A disk that fails, and files that someone else touched.

use std::io::ErrorKind;

use super::*;

const FIRST: &str = "log/00000000000000000001.log";

#[test]
fn a_failed_fsync_poisons_the_log_for_ever() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records(1..=3)).unwrap();
    log.sync().unwrap();
    log.append(&records([4])).unwrap();
    disk.fail_syncs(1);
    let syncs = disk.syncs();
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })), "never retried");
    assert!(matches!(log.append(&records([5])), Err(LogError::Poisoned { .. })));
    assert!(matches!(log.truncate_after(LogIndex(1)), Err(LogError::Poisoned { .. })));
    assert!(matches!(log.drop_below(LogIndex(1)), Err(LogError::Poisoned { .. })));
    assert_eq!((log.synced_index(), disk.syncs()), (LogIndex(3), syncs));
    drop(log);
    disk.crash_losing_all();
    assert_eq!(all(&open(&disk).0), records(1..=3));
}

/// A failed fsync can leave pages that are clean, readable and not on the disk. A process that starts again finds
/// the record; a later fsync alone would not make it durable.
#[test]
fn what_is_found_after_a_failed_fsync_is_made_durable() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records(1..=3)).unwrap();
    disk.fail_syncs(1);
    log.sync().unwrap_err();
    drop(log);
    let (log, recovery) = open(&disk);
    assert_eq!(recovery.last_index, LogIndex(3));
    drop(log);
    disk.crash_losing_all();
    assert_eq!(all(&open(&disk).0), records(1..=3));
}

#[test]
fn every_synced_record_was_covered_by_a_finished_fsync() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    for index in 1..=60 {
        let before = disk.syncs();
        let (path, start) = log.shared.with_active(|active| (active.path.clone(), active.end));
        log.append(&records([index])).unwrap();
        let (path_after, end) = log.shared.with_active(|active| (active.path.clone(), active.end));
        let start = if path == path_after { start } else { 64 };
        assert!(!disk.is_synced(&path_after, start..end), "appending alone does not sync");
        log.sync().unwrap();
        assert!(disk.syncs() > before);
        assert!(disk.is_synced(&path_after, start..end));
        let covered = disk.synced_ranges();
        let covered = covered.iter().filter(|range| range.sync > before && range.path == path_after);
        assert!(covered.into_iter().any(|range| range.bytes.start <= start && end <= range.bytes.end));
    }
}

#[test]
fn a_full_disk_refuses_the_append_and_nothing_else() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    disk.fill_after(1000);
    let mut appended = 0;
    let error = loop {
        match log.append(&records([appended + 1])) {
            Ok(()) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, LogError::Io { error, .. } if error.kind() == ErrorKind::StorageFull),
        "{error}"
    );
    assert_eq!(log.last_index(), LogIndex(appended));
    assert_eq!(disk.list("log").unwrap().len(), 1, "no unfinished segment is left");
    disk.make_room();
    log.append(&records([appended + 1])).unwrap();
    log.sync().unwrap();
    disk.crash_losing_all();
    assert_eq!(all(&open(&disk).0), records(1..=appended + 1));
}

#[test]
fn a_failed_write_leaves_no_trace() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records([1])).unwrap();
    disk.fail_writes(1);
    assert!(matches!(log.append(&records(2..=9)), Err(LogError::Io { .. })));
    assert_eq!(log.last_index(), LogIndex(1));
    log.append(&records([2])).unwrap();
    log.sync().unwrap();
    disk.crash_losing_all();
    let (log, recovery) = open(&disk);
    assert_eq!((all(&log), recovery.torn), (records([1, 2]), None));
}

#[test]
fn a_failed_write_that_cannot_be_wiped_out_poisons_the_log() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    disk.fail_writes(2);
    assert!(matches!(log.append(&records([1])), Err(LogError::Poisoned { .. })));
    assert!(matches!(log.append(&records([1])), Err(LogError::Poisoned { .. })));
}

/// Pages reach the disk in any order: an unsynced record may be lost while a later one is kept.
#[test]
fn unsynced_records_kept_behind_a_lost_one_are_a_torn_tail() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records(1..=3)).unwrap();
    log.sync().unwrap();
    let start = log.shared.with_active(|active| active.end) as usize;
    log.append(&records(4..=8)).unwrap();
    drop(log);
    let mut content = disk.content(FIRST).unwrap();
    content[start..start + 40].fill(0);
    disk.put(FIRST, content);
    let (mut log, recovery) = open(&disk);
    let torn = recovery.torn.unwrap();
    assert_eq!((torn.offset, torn.frames), (start as u64, 4));
    assert_eq!(all(&log), records(1..=3));
    log.append(&records([4])).unwrap();
    log.sync().unwrap();
    assert_eq!(open(&disk).1.torn, None);
}

#[test]
fn a_flipped_bit_while_reading_is_an_error_of_the_reader() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records(1..=5)).unwrap();
    log.sync().unwrap();
    disk.flip_reads(FIRST, 70, 0x10);
    let error = log.reader().read(LogIndex(1), 10).unwrap_err();
    let wanted = "log/00000000000000000001.log is damaged at byte 64, where the record 1 should be: ";
    assert!(error.to_string().starts_with(wanted), "{error}");
    assert!(matches!(Log::open(Arc::new(disk.clone()), options()), Err(LogError::Damaged { .. })));
    disk.stop_flipping();
    assert_eq!(log.reader().read(LogIndex(1), usize::MAX).unwrap(), records(1..=5));
}

fn log_of_three_segments() -> (FaultyDisk, Vec<String>) {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    for index in 1.. {
        log.append(&records([index])).unwrap();
        if disk.list("log").unwrap().len() == 3 {
            break;
        }
    }
    log.sync().unwrap();
    let names = disk.list("log").unwrap();
    (disk, names.into_iter().map(|name| format!("log/{name}")).collect())
}

fn refused(disk: &FaultyDisk) -> LogError {
    let names = disk.list("log").unwrap();
    let error = Log::open(Arc::new(disk.clone()), options()).err().unwrap();
    assert_eq!(disk.list("log").unwrap(), names, "nothing is deleted");
    error
}

#[test]
fn a_missing_segment_is_named() {
    let (disk, names) = log_of_three_segments();
    disk.remove(&names[1]).unwrap();
    let error = refused(&disk);
    let missing: u64 = names[1][4..24].parse().unwrap();
    assert!(
        matches!(&error, LogError::Gap { missing: LogIndex(index), file } if *index == missing && *file == names[2])
    );
}

#[test]
fn a_segment_under_another_name_is_refused() {
    let (disk, names) = log_of_three_segments();
    let copy = disk.content(&names[1]).unwrap();
    disk.put("log/00000000000000000999.log", copy);
    assert!(matches!(refused(&disk), LogError::Misnamed { .. }));
}

#[test]
fn segments_that_have_the_same_records_are_refused() {
    let (disk, _) = log_of_three_segments();
    // A second log's segment that begins in the middle of the first segment.
    let other = FaultyDisk::new();
    let (log, _) = open(&other);
    drop(log);
    let segment = super::super::segment::Segment::create(&other, "log", LogIndex(3), Epoch(1), 4096).unwrap();
    disk.put("log/00000000000000000003.log", other.content(&segment.path).unwrap());
    assert!(matches!(refused(&disk), LogError::Overlap { index: LogIndex(3), .. }));
}

#[test]
fn a_foreign_file_is_refused() {
    for name in ["notes.txt", "1.log", "00000000000000000001 (copy).log", "00000000000000000001.log.bak"] {
        let (disk, _) = log_of_three_segments();
        disk.put(&format!("log/{name}"), b"x".to_vec());
        assert!(matches!(refused(&disk), LogError::Foreign { file } if file.ends_with(name)));
    }
}

#[test]
fn a_newer_format_is_refused() {
    let (disk, names) = log_of_three_segments();
    let mut content = disk.content(&names[0]).unwrap();
    content[8] = 2;
    let crc = crc32c::crc32c(&content[..60]);
    content[60..64].copy_from_slice(&crc.to_le_bytes());
    disk.put(&names[0], content);
    assert!(matches!(refused(&disk), LogError::TooNew { version: 2, known: 1, .. }));
}

#[test]
fn an_unfinished_segment_is_removed_once_the_rest_is_sound() {
    let (disk, names) = log_of_three_segments();
    disk.put("log/00000000000000000777.log.tmp", vec![1, 2, 3]);
    let mut content = disk.content(&names[0]).unwrap();
    content[100] ^= 1;
    let sound = disk.content(&names[0]).unwrap();
    disk.put(&names[0], content);
    refused(&disk);
    disk.put(&names[0], sound);
    assert_eq!(open(&disk).1.unfinished, ["00000000000000000777.log.tmp"]);
    assert_eq!(disk.list("log").unwrap().len(), 3);
}
