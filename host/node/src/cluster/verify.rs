//! `mortise verify` of a cluster node's folder: what the node remembers, and the folder of each of its groups.

use std::path::Path;

use mortise_runtime::Runtime;
use mortise_storage::DataFolder;
use mortise_storage::folder::is_set_aside;

use super::memory::Remembered;
use crate::replica::{StartError, VerifyReport, verify as verify_replica};

/// What the folder of a cluster's node holds, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct NodeReport {
    /// The folder of each group, by its name, and what it holds; `Err`: why it cannot even be opened.
    pub groups: Vec<(String, Result<VerifyReport, String>)>,
    /// Folders of groups that were found damaged once, and are kept aside. They count for nothing, and are not checked.
    pub set_aside: Vec<String>,
    /// What is wrong with the node's own files; empty: nothing.
    pub problems: Vec<String>,
}

impl NodeReport {
    /// Whether nothing is wrong anywhere.
    pub fn is_sound(&self) -> bool {
        let sound = |report: &Result<VerifyReport, String>| {
            report.as_ref().is_ok_and(|report| report.problems.is_empty())
        };
        self.problems.is_empty() && self.groups.iter().all(|(_, report)| sound(report))
    }
}

/// Reads what the node remembers, and every group's folder as [`crate::replica::verify`] does.
///
/// # Errors
/// The folder is in use or none of a cluster's node. What is damaged inside goes into the report.
pub fn verify(path: &Path, runtime: &Runtime) -> Result<NodeReport, StartError> {
    let folder = DataFolder::open_existing_node(path)?;
    let mut report = NodeReport::default();
    if let Err(error) = Remembered::read(&folder.disk()) {
        report.problems.push(format!("what the node remembers: {error}"));
    }
    for group in folder.groups()? {
        let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_set_aside(&group) {
            report.set_aside.push(name);
        } else {
            let found = verify_replica(&group, runtime).map_err(|error| error.to_string());
            report.groups.push((name, found));
        }
    }
    Ok(report)
}
