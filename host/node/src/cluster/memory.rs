//! What a node of a cluster remembers of itself, in the file `NODE` of its folder.

use std::collections::BTreeSet;
use std::sync::Arc;

use mortise_coordination::{ClusterId, Known, Revision};
use mortise_core::codec::{DecodeError, Reader, Writer};
use mortise_core::group::{BootId, Incarnation};
use mortise_core::ids::GroupId;
use mortise_storage::disk::Disk;
use mortise_storage::{SmallFile, SmallFileError};

use super::derive_number;

const FILE: &str = "NODE";
const FORMAT: u8 = 2;
/// The first format that has a count.
const FORMAT_WITH_COUNT: u8 = 2;
/// More groups than this no node remembers; further ones get random incarnations, which is safe.
const GROUPS_MAX: u64 = 1 << 16;

/// What a node remembers of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    /// Its newest start; 0: none.
    pub(super) boot: BootId,
    /// How far it has counted since.
    pub(super) count: u64,
    /// The newest that it knew of etcd.
    pub(super) known: Option<Known>,
    /// The groups that it ever made a store for.
    pub(super) made: BTreeSet<GroupId>,
}

impl Remembered {
    /// Reads it.
    pub(super) fn read(disk: &Arc<dyn Disk>) -> Result<Self, SmallFileError> {
        let Some(bytes) = SmallFile::new(disk.clone(), FILE).read()? else { return Ok(Self::default()) };
        Self::decode(Reader::new(bytes))
            .map_err(|error| SmallFileError::Damaged { file: FILE.to_owned(), what: error.to_string() })
    }

    /// Replaces it, durably.
    pub(super) fn write(&self, disk: &Arc<dyn Disk>) -> Result<(), SmallFileError> {
        let mut writer = Writer::default();
        writer.u8(FORMAT).count(self.boot.0).count(self.count).bool(self.known.is_some());
        if let Some(known) = self.known {
            writer.u64(known.cluster.0).count(known.revision.0);
        }
        let groups = self.made.iter().take(GROUPS_MAX as usize);
        writer.count(groups.len() as u64);
        groups.for_each(|group| _ = writer.count(group.0));
        SmallFile::new(disk.clone(), FILE).replace(&writer.finish())
    }

    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let version = reader.u8("format")?;
        if version > FORMAT {
            return Err(DecodeError::TooNew { what: "node", version, known: FORMAT });
        }
        let boot = BootId(reader.count("boot")?);
        let count = if version >= FORMAT_WITH_COUNT { reader.count("count")? } else { 0 };
        let known = reader.bool("known")?.then(|| {
            let cluster = ClusterId(reader.u64("cluster")?);
            Ok::<_, DecodeError>(Known { cluster, revision: Revision(reader.count("revision")?) })
        });
        let known = known.transpose()?;
        let groups = reader.count("groups")?.min(GROUPS_MAX);
        let made = (0..groups).map(|_| reader.count("group").map(GroupId)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { boot, count, known, made })
    }
}

/// The incarnation of the first store that the folder `storage` makes for a group. Who creates the group lists it, and
/// needs to know no more than the folder's number: another folder under the same node makes another one.
pub(super) fn first_incarnation(storage: u128, group: GroupId) -> Incarnation {
    let purpose = "mortise 2026-11 first incarnation of a group's store";
    Incarnation(derive_number(purpose, &[&storage.to_le_bytes(), &group.0.to_le_bytes()]).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mortise_storage::disk::MemoryDisk;

    #[test]
    fn what_is_remembered_comes_back() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        assert_eq!(Remembered::read(&disk).unwrap(), Remembered::default());
        let known = Some(Known { cluster: ClusterId(u64::MAX), revision: Revision(9) });
        let remembered =
            Remembered { boot: BootId(7), count: 3, known, made: [GroupId(1), GroupId(5)].into() };
        remembered.write(&disk).unwrap();
        assert_eq!(Remembered::read(&disk).unwrap(), remembered);
        // As it was before there was a count: boot 7, nothing known, no group.
        SmallFile::new(disk.clone(), FILE).replace(&[1, 7, 0, 0]).unwrap();
        let before = Remembered { boot: BootId(7), ..Remembered::default() };
        assert_eq!(Remembered::read(&disk).unwrap(), before);
        SmallFile::new(disk.clone(), FILE).replace(&[FORMAT, 1, 7]).unwrap();
        assert!(matches!(Remembered::read(&disk), Err(SmallFileError::Damaged { .. })));
    }

    #[test]
    fn every_folder_and_group_has_its_own_first_incarnation() {
        let one = first_incarnation(1, GroupId(1));
        assert_eq!(one, first_incarnation(1, GroupId(1)));
        assert_ne!(one, first_incarnation(2, GroupId(1)));
        assert_ne!(one, first_incarnation(1, GroupId(2)));
    }
}
