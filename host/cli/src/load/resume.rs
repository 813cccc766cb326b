//! The resume file: how far a load is, and which load it is.

use std::fs::{File, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use mortise_client::load::{Checkpoint, Keep};
use serde::{Deserialize, Serialize};

/// The newest format this release writes and reads.
const FORMAT: u32 = 1;

/// What makes a load the same load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    tenant: String,
    /// Of the file.
    bytes: u64,
    /// BLAKE3 of the file, in hexadecimal.
    digest: String,
    mapping: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    format: u32,
    load: Identity,
    checkpoint: Checkpoint,
}

/// See the module's documentation.
pub(super) struct ResumeFile {
    path: PathBuf,
    load: Identity,
    _lock: Lock,
}

/// Keeps a second load away from a resume file, by a locked file beside it: the resume file itself is replaced at each
/// checkpoint. The system unlocks it however this process ends.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(of: &Path) -> anyhow::Result<Self> {
        let path = beside(of, ".lock");
        let failed = || format!("lock the resume file {}", of.display());
        loop {
            let file = File::create(&path).with_context(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => bail!(
                    "another load uses the resume file {}: wait for its end, or name another one with --resume-file",
                    of.display()
                ),
                Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
            }
            // A load that ended in between has removed this very file: then others lock the next one of that name.
            let (ours, present) = (file.metadata().with_context(failed)?, std::fs::metadata(&path));
            if present.is_ok_and(|present| (present.dev(), present.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // One that stays is locked by nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The identity of a load of `file`, which is read once for it.
pub(super) fn identity(tenant: &str, mut file: &File, mapping: &str) -> io::Result<Identity> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut file, &mut hasher)?;
    file.rewind()?;
    let digest = hasher.finalize().to_hex().to_string();
    Ok(Identity { tenant: tenant.to_owned(), bytes, digest, mapping: mapping.to_owned() })
}

impl ResumeFile {
    /// The resume file at `path`, for this process alone, and the checkpoint in it, where there is one of this very
    /// load.
    pub(super) fn open(
        path: PathBuf,
        load: Identity,
        restart: bool,
    ) -> anyhow::Result<(Self, Option<Checkpoint>)> {
        let shown = path.display().to_string();
        let lock = Lock::take(&path)?;
        let bytes = match std::fs::read(&path) {
            Ok(bytes) if !restart => bytes,
            Err(error) if error.kind() != io::ErrorKind::NotFound && !restart => {
                return Err(error).with_context(|| format!("read the resume file {shown}"));
            }
            _ => return Ok((Self { path, load, _lock: lock }, None)),
        };
        let advice = "--restart begins anew, --resume-file names another one";
        let content: Content = serde_json::from_slice(&bytes)
            .with_context(|| format!("the resume file {shown} is damaged; {advice}"))?;
        if content.format != FORMAT {
            bail!(
                "the resume file {shown} has format {}, this release knows {FORMAT}; {advice}",
                content.format
            );
        }
        let found = &content.load;
        let differs = [
            ("tenant", found.tenant != load.tenant),
            ("file", (found.bytes, &found.digest) != (load.bytes, &load.digest)),
            ("mapping", found.mapping != load.mapping),
        ];
        if let Some((what, _)) = differs.into_iter().find(|(_, differs)| *differs) {
            bail!("the resume file {shown} is of a load with another {what}; {advice}");
        }
        Ok((Self { path, load, _lock: lock }, Some(content.checkpoint)))
    }

    /// The load is complete.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.path)
            .with_context(|| format!("remove the resume file {}", self.path.display()))
    }
}

impl Keep for ResumeFile {
    fn keep(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        let content = Content { format: FORMAT, load: self.load.clone(), checkpoint: checkpoint.clone() };
        let aside = beside(&self.path, ".new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(&content)?)?;
        file.sync_all()?;
        std::fs::rename(&aside, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(mapping: &str) -> Identity {
        Identity { tenant: "t".into(), bytes: 1, digest: "d".into(), mapping: mapping.into() }
    }

    #[test]
    fn a_checkpoint_comes_back_for_the_same_load_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resume");
        let (mut file, none) = ResumeFile::open(path.clone(), load("a"), false).unwrap();
        assert_eq!(none, None);
        let checkpoint = Checkpoint { session: 7, answered: 3, ..Checkpoint::default() };
        file.keep(&checkpoint).unwrap();
        drop(file);
        let (_, found) = ResumeFile::open(path.clone(), load("a"), false).unwrap();
        assert_eq!(found, Some(checkpoint));
        let other = ResumeFile::open(path.clone(), load("b"), false).err().unwrap();
        assert!(other.to_string().contains("another mapping"), "{other}");
        let (file, restarted) = ResumeFile::open(path.clone(), load("b"), true).unwrap();
        assert_eq!(restarted, None);
        file.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn two_loads_cannot_share_a_resume_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resume");
        for restart in [false, true] {
            let (file, _) = ResumeFile::open(path.clone(), load("a"), restart).unwrap();
            let second = ResumeFile::open(path.clone(), load("a"), restart).err().unwrap();
            assert!(second.to_string().contains("another load uses the resume file"), "{second}");
            drop(file);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no lock is left behind");
    }

    #[test]
    fn a_damaged_resume_file_is_an_error_not_a_new_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resume");
        std::fs::write(&path, b"{\"format\": 1").unwrap();
        let error = ResumeFile::open(path, load("a"), false).err().unwrap();
        assert!(error.to_string().contains("is damaged"), "{error}");
    }
}
