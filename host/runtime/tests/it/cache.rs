//! The compile cache with real components.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mortise_runtime::{CacheError, Runtime, RuntimeError, RuntimeOptions};

use crate::support::*;

fn open(folder: &Path) -> Result<Runtime, RuntimeError> {
    Runtime::new(RuntimeOptions {
        cache: Some(folder.into()),
        pool_instances: 8,
        ..RuntimeOptions::default()
    })
}

#[test]
fn a_plugin_is_compiled_once_and_again_when_its_file_is_damaged() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("compiled");
    let component = mortise_artifacts::bad_guest("hostile").unwrap();
    let load = || open(&folder).unwrap().load(&component).unwrap();
    let works = |plugin: &mortise_runtime::Plugin| {
        let reply = plugin.reader(&profile()).query(empty(), &context(0), b"ok");
        assert_eq!(reply.unwrap(), replied("done"));
    };
    let plugin = load();
    assert!(!plugin.from_cache());
    let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert!(file.file_name().unwrap().to_str().unwrap().starts_with(&plugin.digest().to_string()));
    let again = load();
    assert!(again.from_cache());
    assert_eq!((again.digest(), again.manifest()), (plugin.digest(), plugin.manifest()));
    works(&again);
    let good = fs::read(&file).unwrap();
    for at in [0, 8, 40, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file, bad).unwrap();
        let plugin = load();
        assert!(!plugin.from_cache(), "byte {at}");
        works(&plugin);
        assert!(load().from_cache(), "it was written again");
    }
}

#[test]
fn a_component_that_is_refused_is_not_kept() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("compiled");
    let runtime = open(&folder).unwrap();
    for name in ["wasi-clock", "trap-in-describe", "schema-zero"] {
        runtime.load(&mortise_artifacts::bad_guest(name).unwrap()).unwrap_err();
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn a_folder_open_to_others_is_refused_and_the_message_says_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = open(temp.path()).unwrap_err();
    assert!(matches!(error, RuntimeError::Cache(CacheError::Open { mode: 0o755, .. })));
    assert!(error.to_string().contains("chmod 700"), "{error}");
}
