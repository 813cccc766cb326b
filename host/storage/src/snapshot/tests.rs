use std::io::Read;
use std::sync::Arc;

use super::*;
use crate::disk::{Disk, FaultyDisk, MemoryDisk, RealDisk};

const PATH: &str = "snapshots/one.snapshot";

/// Two sections, one of them empty, and an empty chunk.
fn write(disk: &(impl Disk + Clone + 'static), name: &str) -> Result<SnapshotInfo, SnapshotError> {
    let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), name, b"group 1")?;
    writer.begin_section(b"tenant 7")?;
    writer.write(b"abc")?;
    writer.write(b"")?;
    writer.write(&[5; 300])?;
    writer.end_section()?;
    writer.begin_section(b"tenant 8")?;
    writer.end_section()?;
    writer.finish()
}

type Sections = Vec<(Vec<u8>, Vec<Vec<u8>>)>;

fn read(disk: &dyn Disk, name: &str) -> Result<(Vec<u8>, Sections), SnapshotError> {
    let mut reader = SnapshotReader::open(disk, name)?;
    let mut sections = Vec::new();
    while let Some(section) = reader.next_section()? {
        let mut chunks = Vec::new();
        while let Some(chunk) = reader.read_chunk()? {
            chunks.push(chunk.to_vec());
        }
        sections.push((section.header.to_vec(), chunks));
    }
    Ok((reader.header().to_vec(), sections))
}

fn content() -> (Vec<u8>, Sections) {
    let chunks = vec![b"abc".to_vec(), Vec::new(), vec![5; 300]];
    (b"group 1".to_vec(), vec![(b"tenant 7".to_vec(), chunks), (b"tenant 8".to_vec(), Vec::new())])
}

#[test]
fn a_snapshot_comes_back_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let info = write(&disk, "one").unwrap();
    assert_eq!(read(&disk, "one").unwrap(), content());
    assert_eq!(SnapshotReader::open(&disk, "one").unwrap().verify().unwrap(), info);
    assert_eq!(info.bytes, std::fs::metadata(folder.path().join(PATH)).unwrap().len());
    assert_eq!(info.sections, 2);
    write(&disk, "two").unwrap();
    assert_eq!(list_snapshots(&disk).unwrap(), ["one", "two"]);
    remove_snapshot(&disk, "one").unwrap();
    assert_eq!(list_snapshots(&disk).unwrap(), ["two"]);
}

#[test]
fn every_flipped_byte_and_every_cut_is_an_error_that_names_file_and_place() {
    let disk = FaultyDisk::new();
    write(&disk, "one").unwrap();
    let sound = disk.content(PATH).unwrap();
    for place in 0..sound.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut damaged = sound.clone();
            damaged[place] ^= mask;
            disk.put(PATH, damaged.clone());
            let error = read(&disk, "one").unwrap_err();
            assert!(error.to_string().contains(PATH), "{place}: {error}");
            let placed = match &error {
                SnapshotError::Damaged { offset, .. } => *offset <= place as u64,
                SnapshotError::Truncated { .. } => true,
                SnapshotError::NotASnapshot { .. } => place < 8,
                _ => false,
            };
            assert!(placed, "{place}: {error}");
            assert_eq!(disk.content(PATH), Some(damaged));
        }
    }
    for length in 0..sound.len() {
        disk.put(PATH, sound[..length].to_vec());
        let error = read(&disk, "one").unwrap_err();
        let at_end = matches!(error, SnapshotError::Truncated { offset, .. } if offset == length as u64);
        assert!(at_end, "{length}: {error}");
    }
    let mut longer = sound.clone();
    longer.push(0);
    disk.put(PATH, longer);
    let error = read(&disk, "one").unwrap_err();
    assert!(
        matches!(error, SnapshotError::Damaged { offset, .. } if offset == sound.len() as u64),
        "{error}"
    );
}

#[test]
fn a_missing_chunk_or_section_is_seen_at_the_end() {
    let disk = FaultyDisk::new();
    write(&disk, "one").unwrap();
    let sound = disk.content(PATH).unwrap();
    // The chunk "abc" is one frame; the second section is two, right before the trailer.
    let chunk = BEGINNING_BYTES + FRAME_BYTES + 7 + FRAME_BYTES + 8;
    let trailer = sound.len() - TRAILER_BYTES - FRAME_BYTES;
    let section = trailer - FRAME_BYTES - FRAME_BYTES - 8;
    for gone in [chunk..chunk + FRAME_BYTES + 3, section..trailer] {
        let mut damaged = sound.clone();
        damaged.drain(gone);
        disk.put(PATH, damaged);
        let error = read(&disk, "one").unwrap_err();
        assert!(error.to_string().ends_with("the trailer does not match what is before it"), "{error}");
    }
}

#[test]
fn a_length_beyond_the_bound_is_refused_before_memory_is_reserved() {
    let disk = FaultyDisk::new();
    write(&disk, "one").unwrap();
    let mut damaged = disk.content(PATH).unwrap();
    damaged[BEGINNING_BYTES + 1..BEGINNING_BYTES + 5].copy_from_slice(&u32::MAX.to_le_bytes());
    disk.put(PATH, damaged);
    let error = read(&disk, "one").unwrap_err();
    assert!(error.to_string().ends_with("a part is longer than allowed"), "{error}");
}

#[test]
fn a_stream_is_read_up_to_the_end_of_the_snapshot() {
    let mut encoder = SnapshotEncoder::new(Vec::new(), "export", b"h").unwrap();
    encoder.begin_section(b"s").unwrap();
    encoder.write(&vec![1; CHUNK_BYTES_MAX]).unwrap();
    assert!(matches!(encoder.write(&vec![1; CHUNK_BYTES_MAX + 1]), Err(SnapshotError::TooLarge { .. })));
    encoder.end_section().unwrap();
    let (mut stream, info) = encoder.finish().unwrap();
    stream.extend_from_slice(b"rest");
    let mut decoder = SnapshotDecoder::new(stream.as_slice(), "import").unwrap();
    assert_eq!(decoder.next_section().unwrap().unwrap().header, "s");
    // What is not read of a section is checked and skipped.
    assert_eq!(decoder.next_section().unwrap(), None);
    assert_eq!(decoder.next_section().unwrap(), None);
    assert_eq!(decoder.info(), Some(&info));
    let mut rest = Vec::new();
    decoder.into_inner().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"rest");
}

#[test]
fn parts_out_of_order_are_refused() {
    let mut encoder = SnapshotEncoder::new(Vec::new(), "x", b"").unwrap();
    assert!(matches!(encoder.write(b"x"), Err(SnapshotError::OutOfOrder { .. })));
    assert!(matches!(encoder.end_section(), Err(SnapshotError::OutOfOrder { .. })));
    encoder.begin_section(b"").unwrap();
    assert!(matches!(encoder.begin_section(b""), Err(SnapshotError::OutOfOrder { .. })));
    assert!(matches!(encoder.finish(), Err(SnapshotError::OutOfOrder { .. })));
}

#[test]
fn a_finished_snapshot_survives_a_crash_and_an_unfinished_one_is_removed() {
    for seed in 0..50 {
        let disk = FaultyDisk::new();
        write(&disk, "one").unwrap();
        let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), "two", b"").unwrap();
        writer.begin_section(b"").unwrap();
        writer.write(&vec![3; 600_000]).unwrap();
        disk.crash(seed);
        std::mem::forget(writer);
        disk.put("snapshots/notes.tmp", b"a stranger's".to_vec());
        disk.put("snapshots/three.snapshot.tmp", b"a stranger's".to_vec());
        remove_leftovers(&disk).unwrap();
        let left = disk.list("snapshots").unwrap();
        assert_eq!(left, ["notes.tmp", "one.snapshot", "three.snapshot.tmp"]);
        assert_eq!(read(&disk, "one").unwrap(), content());
    }
}

/// At whatever moment the power goes, there is a whole snapshot of the name: the old one or the new one.
#[test]
fn replacing_a_snapshot_never_loses_both() {
    let mut replaced = 0;
    for changes in 0..12 {
        for seed in 0..20 {
            let disk = FaultyDisk::new();
            write(&disk, "one").unwrap();
            disk.cut_power_after(changes);
            let writer = SnapshotWriter::create(Arc::new(disk.clone()), "one", b"new");
            let finished = writer.and_then(SnapshotWriter::finish).is_ok();
            disk.crash(seed);
            let (header, _) = read(&disk, "one").unwrap();
            assert!(!finished || header == b"new");
            replaced += u32::from(header == b"new");
        }
    }
    assert!(replaced > 0 && replaced < 240);
}

#[test]
fn a_full_disk_leaves_no_file() {
    let disk = FaultyDisk::new();
    disk.fill_after(100);
    let error = write(&disk, "one").unwrap_err();
    let full =
        matches!(&error, SnapshotError::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull);
    assert!(full, "{error}");
    assert_eq!(disk.list("snapshots").unwrap().len(), 0);
}

#[test]
fn a_failed_fsync_gives_no_snapshot() {
    let disk = FaultyDisk::new();
    disk.fail_syncs(1);
    write(&disk, "one").unwrap_err();
    assert_eq!(list_snapshots(&disk).unwrap().len(), 0);
}

#[test]
fn a_name_that_would_leave_the_folder_is_refused() {
    let disk = FaultyDisk::new();
    for name in ["", ".hidden", "..", "a/b", "ä", "a b"] {
        assert!(matches!(write(&disk, name), Err(SnapshotError::Name { .. })), "{name}");
        assert!(matches!(remove_snapshot(&disk, name), Err(SnapshotError::Name { .. })));
    }
}

#[test]
fn an_incoming_snapshot_gets_its_name_only_when_it_is_whole() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let mut writer = SnapshotWriter::create(disk.clone(), "1", b"header").unwrap();
    writer.begin_section(b"one").unwrap();
    writer.write(&[7; 1000]).unwrap();
    writer.end_section().unwrap();
    let info = writer.finish().unwrap();
    let file = open_snapshot_file(disk.as_ref(), "1").unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    let receive = |bytes: &[u8]| {
        let mut incoming = IncomingSnapshot::create(disk.clone(), "2").unwrap();
        for part in bytes.chunks(100) {
            incoming.write(part).unwrap();
        }
        assert_eq!(incoming.offset(), bytes.len() as u64);
        incoming.finish()
    };
    let mut damaged = bytes.clone();
    damaged[600] ^= 1;
    assert!(receive(&damaged).is_err());
    assert!(receive(&bytes[..bytes.len() - 1]).is_err());
    assert!(receive(&[&bytes[..], b"x"].concat()).is_err());
    assert_eq!(list_snapshots(disk.as_ref()).unwrap(), ["1"]);
    assert_eq!(receive(&bytes).unwrap(), info);
    assert_eq!(list_snapshots(disk.as_ref()).unwrap(), ["1", "2"]);
    keep_aside(disk.as_ref(), "1").unwrap();
    assert_eq!(list_snapshots(disk.as_ref()).unwrap(), ["2"]);
}
