//! The rules of this repository. Each rule is a function from files to complaints; it runs over the repository, and
//! over a sample that breaks it, so that a rule which sees nothing is noticed.

#![allow(clippy::expect_used)] // Where a test cannot even look, it fails.

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/repository.rs"]
mod repository;
#[path = "tidy/words.rs"]
mod words;

use repository::{File, Package, files, packages};

/// Longest source file. Style asks for 100 to 300 lines; from 400 on one should think, here one must.
const LINES_MAX: usize = 500;

/// Fails with all complaints at once.
#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn too_long(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    let long = file.is_rust() && lines > LINES_MAX;
    long.then(|| format!("{}: {lines} lines are more than {LINES_MAX}; split it by meaning", file.path))
}

#[test]
fn no_source_file_is_too_long() {
    none(files().iter().filter_map(too_long).collect());

    let text = "\n".repeat(LINES_MAX + 1);
    assert!(too_long(&File { path: "a.rs".into(), text: text.clone() }).is_some());
    assert!(too_long(&File { path: "a.txt".into(), text }).is_none());
}

/// Generated code belongs into `OUT_DIR`, compiled code into `target`.
fn generated(file: &File) -> Option<String> {
    let mark = ["@", "generated"].concat();
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let named = [".pb.rs", ".wasm", "_pb2.py", ".pb.go"].iter().any(|end| name.ends_with(end));
    let is_lock = name == "Cargo.lock"; // marked so by cargo, and meant to be committed
    let marked = !is_lock && file.text.lines().take(5).any(|line| line.contains(&mark));
    (named || marked).then(|| format!("{}: generated, so not to be committed", file.path))
}

#[test]
fn nothing_generated_is_committed() {
    none(files().iter().filter_map(generated).collect());

    let text = format!("// This file is {} by a tool.\n", ["@", "generated"].concat());
    assert!(generated(&File { path: "proto/src/v1.rs".into(), text }).is_some());
    assert!(generated(&File { path: "plugins/kv/kv.wasm".into(), text: String::new() }).is_some());
}

/// Lints are chosen once, in the workspace.
fn own_lints(package: &Package) -> Option<String> {
    let inherits = package.manifest.get("lints").and_then(|lints| lints.get("workspace"));
    let inherits = inherits.and_then(toml::Value::as_bool) == Some(true);
    (!inherits).then(|| format!("{}/Cargo.toml: needs [lints] workspace = true", package.folder))
}

#[test]
fn every_package_inherits_the_lints() {
    none(packages().iter().filter_map(own_lints).collect());

    assert!(own_lints(&Package::sample("host/x", "name = 'x'")).is_some());
    assert!(own_lints(&Package::sample("host/x", "[lints]\nworkspace = false")).is_some());
}

/// What `package` alone is built with: each crate with its features, one a line.
fn features(package: &str) -> String {
    let arguments = ["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p} {f}"];
    let output =
        mortise_artifacts::toolchain::host_cargo().args(arguments).args(["--package", package]).output();
    let output = output.expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The shipped binary keeps every rule of the protocol: what can put one out of force is not compiled into it.
#[test]
fn nothing_of_the_shipped_binary_can_break_a_rule() {
    let breaks = |line: &&str| line.starts_with("mortise-") && line.contains("mutants");
    assert_eq!(features("mortise").lines().find(breaks), None);
    assert!(features("mortise-broken-node").lines().filter(breaks).count() >= 2, "tests need it");
}

/// A package that is no member would be neither built nor tested.
#[test]
fn every_package_is_a_member() {
    let root = repository::root_manifest();
    let members: Vec<&str> = root["workspace"]["members"]
        .as_array()
        .map(|members| members.iter().filter_map(toml::Value::as_str).collect())
        .unwrap_or_default();
    let packages = packages();
    assert!(packages.len() > 10, "the walk found {} packages only", packages.len());
    let strangers = packages.iter().filter(|package| !members.contains(&package.folder.as_str()));
    none(strangers.map(|package| format!("{} is no member of the workspace", package.folder)).collect());
}
