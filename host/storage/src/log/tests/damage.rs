//! Every byte of a small log flipped, and the log cut at every byte.

use std::collections::BTreeMap;

use super::*;

/// Two segments, all records but the last two synced, as a process leaves them that is killed.
fn small_log() -> (BTreeMap<String, Vec<u8>>, u64, u64) {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    let mut synced = 0;
    while disk.list("log").unwrap().len() < 2 || synced % 4 != 0 {
        log.append(&records([synced + 1, synced + 2])).unwrap();
        log.sync().unwrap();
        synced += 2;
    }
    let last = synced + 2;
    log.append(&records([last - 1])).unwrap();
    log.append(&records([last])).unwrap();
    assert_eq!(disk.list("log").unwrap().len(), 2);
    let files = disk.list("log").unwrap().into_iter().map(|name| {
        let path = format!("log/{name}");
        let content = disk.content(&path).unwrap();
        (path, content)
    });
    (files.collect(), synced, last)
}

fn disk_of(files: &BTreeMap<String, Vec<u8>>) -> FaultyDisk {
    let disk = FaultyDisk::new();
    for (path, content) in files {
        disk.put(path, content.clone());
    }
    disk
}

#[derive(Default, Debug)]
struct Outcomes {
    whole: u32,
    torn: u32,
    refused: u32,
}

impl Outcomes {
    /// Opens a damaged log, and checks that nothing synced is lost silently and nothing damaged is touched.
    fn note(&mut self, files: &BTreeMap<String, Vec<u8>>, synced: u64, last: u64, how: &str) {
        let disk = disk_of(files);
        match Log::open(Arc::new(disk.clone()), options()) {
            Ok((log, recovery)) => {
                let found = all(&log);
                assert_eq!(found, records(1..=found.len() as u64), "{how}");
                assert!(found.len() as u64 >= synced, "{how} loses synced records: {recovery:?}");
                if found.len() as u64 == last {
                    self.whole += 1;
                } else {
                    assert!(recovery.torn.is_some() || how.starts_with("zero"), "{how}: cut unreported");
                    self.torn += 1;
                }
            }
            Err(error) => {
                for (path, content) in files {
                    assert_eq!(disk.content(path).as_ref(), Some(content), "{how}: {error}");
                }
                let named = files.keys().any(|path| error.to_string().contains(path.as_str()));
                assert!(named, "{how}: {error}");
                self.refused += 1;
            }
        }
    }
}

#[test]
fn every_flipped_byte_is_harmless_or_cut_or_refused() {
    let (files, synced, last) = small_log();
    let mut outcomes = Outcomes::default();
    for (path, content) in &files {
        for place in 0..content.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut damaged = files.clone();
                damaged.get_mut(path).unwrap()[place] ^= mask;
                let how = format!("flip {mask:#x} at {place} of {path}");
                outcomes.note(&damaged, synced, last, &how);
            }
        }
    }
    assert!(outcomes.whole > 0 && outcomes.torn > 0 && outcomes.refused > 3000, "{outcomes:?}");
}

/// A file keeps the length it was made with, so that every cut is seen.
#[test]
fn every_cut_of_a_file_is_refused() {
    let (files, synced, last) = small_log();
    let mut outcomes = Outcomes::default();
    for (path, content) in &files {
        for length in 0..content.len() {
            let mut damaged = files.clone();
            damaged.get_mut(path).unwrap().truncate(length);
            outcomes.note(&damaged, synced, last, &format!("cut {path} to {length}"));
        }
    }
    assert_eq!((outcomes.whole, outcomes.torn), (0, 0));
}

/// A lost write of a sector leaves zeros, which look like preallocated space.
#[test]
fn every_zeroed_stretch_is_harmless_or_cut_or_refused() {
    let (files, synced, last) = small_log();
    let mut outcomes = Outcomes::default();
    for (path, content) in &files {
        for start in (0..content.len()).step_by(8) {
            for length in [8, 40, 128, 512] {
                let end = content.len().min(start + length);
                // A stretch that takes the last sync's records together with their mark leaves nothing that knows of
                // them. Only the state's applied index does: see the module `recovery`.
                let tail = content.iter().rposition(|byte| *byte != 0).unwrap();
                if path.ends_with("1.log") || tail - start.min(tail) > 2000 {
                    let mut damaged = files.clone();
                    damaged.get_mut(path).unwrap()[start..end].fill(0);
                    outcomes.note(&damaged, synced, last, &format!("zero {start}..{end} of {path}"));
                }
            }
        }
    }
    assert!(outcomes.whole > 0 && outcomes.refused > 0, "{outcomes:?}");
}

/// The incident: a bit flips in the last record that was synced, right before the preallocated zeros.
#[test]
fn damage_in_the_last_synced_record_is_no_torn_tail() {
    let disk = FaultyDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&records(1..=5)).unwrap();
    log.sync().unwrap();
    let name = "log/00000000000000000001.log";
    let offset = log.shared.with_active(|active| active.end - 40 - 8) as usize;
    drop(log);
    let mut content = disk.content(name).unwrap();
    content[offset] ^= 1;
    disk.put(name, content);
    let error = Log::open(Arc::new(disk), options()).err().unwrap();
    assert!(matches!(&error, LogError::Damaged { index: LogIndex(5), .. }), "{error}");
    assert!(error.to_string().ends_with("but all up to 5 was synced"), "{error}");
}
