//! What the rules look at: the text files and the packages of this repository.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file, by its path from the root with `/` between names.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// A package: its folder from the root, its name and its manifest.
pub(crate) struct Package {
    pub(crate) folder: String,
    pub(crate) name: String,
    pub(crate) manifest: toml::Table,
}

impl Package {
    /// For trying a rule.
    pub(crate) fn sample(folder: &str, manifest: &str) -> Self {
        let manifest = manifest.parse::<toml::Table>().expect("a sample is valid TOML");
        Self { folder: folder.to_string(), name: "sample".to_string(), manifest }
    }

    /// The names in a table of the manifest, such as `dependencies`, also those for some platforms only. A renamed
    /// dependency counts by its real name.
    pub(crate) fn dependencies(&self, table: &str) -> Vec<String> {
        let platforms = self.manifest.get("target").and_then(toml::Value::as_table).into_iter();
        let tables = platforms.flat_map(|target| target.values()).filter_map(toml::Value::as_table);
        let all = std::iter::once(&self.manifest).chain(tables);
        let entries = all.filter_map(|at| at.get(table).and_then(toml::Value::as_table)).flatten();
        let real =
            |value: &toml::Value| value.get("package").and_then(toml::Value::as_str).map(str::to_string);
        entries.map(|(name, value)| real(value).unwrap_or_else(|| name.clone())).collect()
    }
}

/// All text files, without what git ignores.
pub(crate) fn files() -> Vec<File> {
    let mut files = Vec::new();
    walk(&root(), &mut files);
    assert!(files.len() > 50, "the walk found {} files only", files.len());
    files
}

/// All packages but the workspace itself.
pub(crate) fn packages() -> Vec<Package> {
    let manifests = files().into_iter().filter_map(|file| {
        let folder = file.path.strip_suffix("/Cargo.toml")?.to_string();
        let manifest: toml::Table =
            file.text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.path));
        let name = manifest["package"]["name"].as_str().unwrap_or_default().to_string();
        Some(Package { folder, name, manifest })
    });
    manifests.collect()
}

pub(crate) fn root_manifest() -> toml::Table {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("read the workspace's manifest");
    text.parse().expect("the workspace's manifest is valid TOML")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is below the root").to_path_buf()
}

fn walk(folder: &Path, files: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("list {}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("list a folder");
        let path = entry.path();
        let name = entry.file_name();
        let kind = entry.file_type().expect("look at a file");
        let ignored =
            [".git", "target"].iter().any(|ignored| name == *ignored) || path == root().join("data");
        if kind.is_dir() && !ignored {
            walk(&path, files);
        } else if kind.is_file() {
            // What is not UTF-8, such as data for tests, keeps its name, which rules look at too.
            let text = fs::read_to_string(&path).unwrap_or_default();
            let path = path.strip_prefix(root()).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.push(File { path, text });
        }
    }
}
