//! What is refused before it is ever used, and how the refusal reads.

use std::time::{Duration, Instant};

use mortise_core::outcome::{Failure, Limit};
use mortise_runtime::{LoadError, Runtime, RuntimeOptions};

use crate::support::runtime;

fn refusal(name: &str) -> LoadError {
    runtime().load(&mortise_artifacts::bad_guest(name).unwrap()).unwrap_err()
}

#[test]
fn what_is_no_component_is_refused_with_its_own_error() {
    assert!(matches!(refusal("empty-file"), LoadError::NotWasm { bytes: 0 }));
    assert!(matches!(refusal("not-wasm"), LoadError::NotWasm { .. }));
    assert!(matches!(refusal("core-module"), LoadError::CoreModule));
    assert!(matches!(refusal("truncated"), LoadError::Malformed { .. }));
    assert!(matches!(refusal("too-big"), LoadError::TooBig { bytes_max, .. } if bytes_max == 32 << 20));
}

#[test]
fn a_component_of_another_world_is_refused_by_the_export_that_differs() {
    for (name, expected) in [("empty-component", "describe"), ("wrong-signature", "")] {
        match refusal(name) {
            LoadError::WrongExport { export, reason } => {
                assert!(!reason.is_empty());
                assert!(expected.is_empty() || export == expected, "{name}: {export}");
            }
            other => panic!("{name}: {other}"),
        }
    }
    assert!(matches!(
        refusal("wrong-world"),
        LoadError::WrongExport { .. } | LoadError::ForeignImport { .. }
    ));
}

#[test]
fn a_foreign_import_is_refused_by_name() {
    for (name, import) in
        [("wasi-clock", "wasi:clocks/monotonic-clock@0.2.0"), ("wasi-random", "wasi:random/random@0.2.0")]
    {
        let error = refusal(name);
        assert!(matches!(&error, LoadError::ForeignImport { import: found } if found == import), "{error}");
        assert!(error.to_string().contains(import));
    }
    let error = refusal("unknown-import");
    assert!(
        matches!(&error, LoadError::UnknownInterface { import } if import.starts_with("mortise:storage/secrets"))
    );
}

#[test]
fn a_foreign_import_is_found_before_anything_is_compiled() {
    // No compilation ends within no time.
    let options = RuntimeOptions { compile_time_max: Duration::ZERO, ..RuntimeOptions::default() };
    let runtime = Runtime::new(options).unwrap();
    let load = |name| runtime.load(&mortise_artifacts::bad_guest(name).unwrap()).unwrap_err();
    assert!(matches!(load("wasi-clock"), LoadError::ForeignImport { .. }));
    assert!(matches!(load("unknown-import"), LoadError::UnknownInterface { .. }));
    assert!(matches!(load("hostile"), LoadError::CompileTooSlow { .. }));
}

#[test]
fn a_component_that_was_accepted_before_loads_whatever_this_machine_allows_uploads() {
    let options = RuntimeOptions {
        compile_time_max: Duration::ZERO,
        component_bytes_max: 8,
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::new(options).unwrap();
    let component = mortise_artifacts::bad_guest("hostile").unwrap();
    assert!(matches!(runtime.load(&component), Err(LoadError::TooBig { .. })));
    assert_eq!(runtime.load_accepted(&component).unwrap().manifest().name, "hostile");
}

#[test]
fn a_component_with_a_feature_that_plugins_may_not_use_is_refused() {
    for module in [
        "(memory 1 1 shared)",
        "(memory i64 1)",
        "(memory 1) (memory 1)",
        "(func (result v128) v128.const i64x2 0 0 v128.const i64x2 0 0 i8x16.relaxed_swizzle)",
        "(tag)",
        "(type (struct))",
    ] {
        let bytes = wat::parse_str(format!("(component (core module {module}))")).unwrap();
        assert!(matches!(runtime().load(&bytes), Err(LoadError::Malformed { .. })), "{module}");
    }
}

#[test]
fn a_compilation_that_takes_too_long_is_given_up_and_the_next_waits_for_its_end() {
    let options =
        RuntimeOptions { compile_time_max: Duration::from_millis(100), ..RuntimeOptions::default() };
    let runtime = Runtime::new(options).unwrap();
    let slow = mortise_artifacts::bad_guest("slow-to-compile").unwrap();
    let began = Instant::now();
    assert!(matches!(runtime.load(&slow), Err(LoadError::CompileTooSlow { .. })));
    assert!(matches!(runtime.load(&slow), Err(LoadError::CompilerBusy { .. })));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_plugin_that_fails_in_describe_or_at_its_start_is_refused() {
    let trapped = |reason: &str| Failure::Trapped { reason: reason.into() };
    let exceeded = |limit| Failure::LimitExceeded { limit };
    for (name, expected) in [
        ("trap-in-describe", trapped("unreachable code reached")),
        ("loop-in-describe", exceeded(Limit::Fuel)),
        ("eat-memory-in-describe", exceeded(Limit::Memory)),
        ("overflow-stack-in-describe", trapped("memory access out of bounds")),
    ] {
        match refusal(name) {
            LoadError::DescribeFailed(failure) => assert_eq!(failure, expected, "{name}"),
            other => panic!("{name}: {other}"),
        }
    }
    for (name, expected) in
        [("trap-in-start", trapped("unreachable code reached")), ("loop-in-start", exceeded(Limit::Fuel))]
    {
        match refusal(name) {
            LoadError::StartFailed(failure) => assert_eq!(failure, expected, "{name}"),
            other => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn a_bad_manifest_is_refused_by_its_field() {
    for (name, field) in
        [("bad-manifest-name", "name"), ("schema-zero", "schema"), ("giant-manifest", "manifest")]
    {
        match refusal(name) {
            LoadError::BadManifest(error) => assert_eq!(error.field, field),
            other => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn shipped_plugins_load_and_say_what_they_are() {
    for package in mortise_artifacts::SHIPPED {
        let bytes = mortise_artifacts::bytes(package).unwrap();
        let plugin = runtime().load(&bytes).unwrap();
        assert!(package.ends_with(&plugin.manifest().name), "{package}: {}", plugin.manifest().name);
        assert_eq!(plugin.component_bytes_len(), bytes.len());
        assert!(!plugin.from_cache());
    }
}
