//! Who may import whom. ARCHITECTURE.md gives the reasons.

use crate::none;
use crate::repository::{File, Package, files, packages};

/// What a package may import of its siblings. A package that is not listed, in no folder of [`FREE`], is a mistake.
const SIBLINGS: &[(&str, &[&str])] = &[
    ("mortise-core", &[]),
    ("mortise-storage", &["mortise-core"]),
    ("mortise-runtime", &["mortise-core"]),
    ("mortise-coordination", &["mortise-core"]),
    ("mortise-proto", &["mortise-core"]),
    ("mortise-peer", &["mortise-core", "mortise-proto"]),
    ("mortise-commands", &[]),
    // With the kv plugin's messages: a typed client of a shipped plugin comes with the client.
    ("mortise-client", &["mortise-core", "mortise-proto", "mortise-commands", "mortise-coordination"]),
    (
        "mortise-node",
        &[
            "mortise-core",
            "mortise-storage",
            "mortise-runtime",
            "mortise-coordination",
            "mortise-peer",
            "mortise-proto",
        ],
    ),
    ("mortise-sdk", &[]),
    ("mortise-testkit", &["mortise-core", "mortise-runtime", "mortise-artifacts"]),
    ("mortise-plugin-kv", PLUGIN),
    ("mortise-plugin-ledger", PLUGIN),
    ("mortise-example-counter", PLUGIN),
    ("mortise-example-flights", &["mortise-client", "mortise-commands", "mortise-core", "mortise-proto"]),
    ("mortise-example-clients", &["mortise-client", "mortise-commands", "mortise-core", "mortise-proto"]),
    ("mortise-hostile", &[]),
    ("mortise-artifacts", &[]),
    ("mortise-etcd-kit", &["mortise-artifacts"]),
    ("mortise-example-role-watcher", &["mortise-core", "mortise-coordination"]),
    ("xtask", &["mortise-artifacts"]),
];

/// A plugin knows nothing of the host.
const PLUGIN: &[&str] = &["mortise-sdk", "mortise-commands"];

/// What any package's tests may import besides.
const FOR_TESTS: &[&str] = &["mortise-artifacts", "mortise-testkit", "mortise-commands", "mortise-etcd-kit"];

/// Where any sibling may be imported: the binary, and what tests and measures the whole.
const FREE: &[&str] = &[
    "host/cli",
    "tests",
    "tests/sim",
    "tests/cluster",
    "tests/cluster/broken",
    "tests/bench",
    "tests/model",
];

/// Foreign crates with a home: who imports them elsewhere goes round the crate that owns them. Names that end with
/// `*` stand for a family.
const HOMES: &[(&str, &[&str])] = &[
    ("wasmtime*", &["mortise-runtime"]),
    ("cranelift*", &["mortise-runtime"]),
    // The benchmark measures etcd beside us.
    ("etcd-client", &["mortise-coordination", "mortise-bench"]),
    ("tonic*", &["mortise-node", "mortise-peer", "mortise-client", "mortise-proto"]),
    ("fjall", &["mortise-storage"]),
];

/// What would make the core impure, as crate names in its manifest.
const IMPURE_CRATES: &[&str] =
    &["tokio", "prost", "rand", "getrandom", "rustix", "libc", "socket2", "mio", "uuid", "chrono"];

/// And as words in its sources. Tests of the core may read files: goldenscripts are some.
const IMPURE_WORDS: &[&str] =
    &["std::fs", "std::net", "std::env", "std::process", "std::thread", "std::os", "SystemTime", "Instant"];

/// Words that touch files.
const FILE_WORDS: &[&str] =
    &["std::fs", "tokio::fs", "fs::File", "File::open", "File::create", "OpenOptions"];

/// Whose files these are: data in storage; else the compile cache, settings and certificates, a user's own files.
const FILE_HOMES: &[&str] = &[
    "host/storage/",
    "host/runtime/src/cache",
    "host/node/src/config",
    "host/node/src/security/tls",
    "host/cli/",
];

fn of_siblings(package: &Package) -> Vec<String> {
    if FREE.contains(&package.folder.as_str()) {
        return Vec::new();
    }
    let Some((_, allowed)) = SIBLINGS.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!("{}: say in tests/tests/tidy/imports.rs what it may import", package.folder)];
    };
    let forbidden = |name: &String, more: &[&str]| {
        name.starts_with("mortise") && !allowed.contains(&name.as_str()) && !more.contains(&name.as_str())
    };
    let shipped = [package.dependencies("dependencies"), package.dependencies("build-dependencies")].concat();
    let mut names: Vec<String> = shipped.into_iter().filter(|name| forbidden(name, &[])).collect();
    let tests = package.dependencies("dev-dependencies");
    names.extend(tests.into_iter().filter(|name| forbidden(name, FOR_TESTS)));
    names.iter().map(|name| format!("{} must not import {name}", package.name)).collect()
}

fn of_strangers(package: &Package) -> Vec<String> {
    let tables = ["dependencies", "build-dependencies", "dev-dependencies"];
    let names = tables.iter().flat_map(|table| package.dependencies(table));
    let homeless = |name: &String| {
        let is = |pattern: &str| match pattern.strip_suffix('*') {
            Some(family) => name.starts_with(family),
            None => name == pattern,
        };
        let home = HOMES.iter().find(|(pattern, _)| is(pattern));
        home.is_some_and(|(_, homes)| !homes.contains(&package.name.as_str()))
            || (package.name == "mortise-core" && IMPURE_CRATES.contains(&name.as_str()))
    };
    names.filter(homeless).map(|name| format!("{} must not import {name}", package.name)).collect()
}

/// Lines of code that hold one of `words`; comments may name what the code must not use.
fn with_words(file: &File, words: &[&str], why: &str) -> Vec<String> {
    let code = file.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    let hits =
        code.filter_map(|(number, line)| Some((number + 1, words.iter().find(|word| line.contains(*word))?)));
    hits.map(|(number, word)| format!("{}:{number}: {word}: {why}", file.path)).collect()
}

fn impure(file: &File) -> Vec<String> {
    if !file.is_rust() || !file.path.starts_with("host/core/src/") {
        return Vec::new();
    }
    with_words(file, IMPURE_WORDS, "the core is pure, and the same on every replica")
}

fn on_files(file: &File) -> Vec<String> {
    let is_host = file.is_rust() && file.path.starts_with("host/") && file.path.contains("/src/");
    let is_test = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
    if !is_host || is_test || FILE_HOMES.iter().any(|home| file.path.starts_with(home)) {
        return Vec::new();
    }
    with_words(file, FILE_WORDS, "data files are touched in host/storage only")
}

#[test]
fn siblings_are_imported_in_one_direction_only() {
    none(packages().iter().flat_map(of_siblings).collect());

    let mut sample = Package::sample("host/core", "[dependencies]\nmortise-storage.workspace = true");
    assert_eq!(of_siblings(&sample).len(), 1, "a package without a rule");
    sample.name = "mortise-core".to_string();
    assert_eq!(of_siblings(&sample), ["mortise-core must not import mortise-storage"]);
    let mut renamed = Package::sample("plugins/kv", "[dev-dependencies]\nx = { package = 'mortise-node' }");
    renamed.name = "mortise-plugin-kv".to_string();
    assert_eq!(of_siblings(&renamed), ["mortise-plugin-kv must not import mortise-node"]);
}

#[test]
fn foreign_crates_are_imported_at_home_only() {
    none(packages().iter().flat_map(of_strangers).collect());

    let unix = "[target.'cfg(unix)'.dependencies]\nwasmtime-environ = '48'\netcd-client = '1'\nserde = '1'";
    assert_eq!(of_strangers(&Package::sample("host/node", unix)).len(), 2);
    let mut core = Package::sample("host/core", "[dependencies]\nprost = '1'");
    assert_eq!(of_strangers(&core).len(), 0);
    core.name = "mortise-core".to_string();
    assert_eq!(of_strangers(&core), ["mortise-core must not import prost"]);
}

#[test]
fn the_core_is_pure() {
    none(files().iter().flat_map(impure).collect());

    let text = "// no std::fs here\nlet now = std::time::Instant::now();\n".to_string();
    let sample = File { path: "host/core/src/time.rs".into(), text };
    assert_eq!(impure(&sample).len(), 1);
}

#[test]
fn data_files_are_touched_in_storage_only() {
    none(files().iter().flat_map(on_files).collect());

    let sample = |path: &str| File { path: path.into(), text: "use std::fs::read;\n".into() };
    assert_eq!(on_files(&sample("host/node/src/apply.rs")).len(), 1);
    assert_eq!(on_files(&sample("host/storage/src/disk.rs")).len(), 0);
}
