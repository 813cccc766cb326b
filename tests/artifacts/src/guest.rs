//! One package: compile it, wrap it as a component, publish the file.

use crate::{toolchain, workspace_root};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use wit_component::ComponentEncoder;

/// A guest's stack in its memory. Every log entry is applied by a fresh instance, and most of its price is touching and
/// resetting its memory: hence not the 1 MiB that is usual. Deeper recursion traps.
const STACK_BYTES: usize = 64 << 10;
/// How large a function may be that is put in line, in LLVM's own measure; usual are 275. A call costs a guest more than
/// native code, for around it the fuel used goes to memory and back: a put of `kv` takes a twentieth less time like
/// this, and its component is half as large again.
const INLINE_THRESHOLD: u32 = 1000;

/// The core modules this process has compiled already. Also keeps its threads from compiling one twice.
static COMPILED: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());

/// Builds `package` and puts its component into `folder`.
pub(crate) fn component(package: &str, folder: &Path) -> Result<PathBuf> {
    let component = encode(&module(package)?).with_context(|| format!("wrap {package} as a component"))?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join(format!("{}.wasm", short_name(package)));
    let _lock = lock()?;
    publish(&component, &path)?;
    Ok(path)
}

/// Compiles `package` to a core module for wasm32.
pub(crate) fn module(package: &str) -> Result<Vec<u8>> {
    // A panic elsewhere cannot leave the map half-written: an insert is its only change.
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = compiled.get(package) {
        return Ok(module.clone());
    }
    let module = compile(package)?;
    compiled.insert(package.to_string(), module.clone());
    Ok(module)
}

/// One process at a time compiles or publishes. Dropping the file lets the next one in.
fn lock() -> Result<File> {
    let path = target().join(".artifacts.lock");
    fs::create_dir_all(target()).with_context(|| format!("create {}", target().display()))?;
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    file.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// A folder of its own: the cargo around a test run may hold the lock of the usual one.
fn target() -> PathBuf {
    workspace_root().join("target/guest")
}

fn compile(package: &str) -> Result<Vec<u8>> {
    let output = cargo(workspace_root(), &["--profile", "guest", "--package", package], package)?;
    let name = format!("{}.wasm", package.replace('-', "_"));
    let path = output.join("guest").join(name);
    fs::read(&path).with_context(|| format!("read {} (is {package} a cdylib?)", path.display()))
}

/// Builds the crate in `folder`, which need not be of this workspace, and puts its component beside its Cargo.toml.
pub(crate) fn component_of(folder: &Path) -> Result<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
    let text: toml::Table = text.parse().with_context(|| format!("parse {}", manifest.display()))?;
    let name = text.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    let name = name.with_context(|| format!("{} has no package name", manifest.display()))?;
    let output = cargo(folder, &["--release"], name)?;
    let module = output.join("release").join(format!("{}.wasm", name.replace('-', "_")));
    let module =
        fs::read(&module).with_context(|| format!("read {} (is {name} a cdylib?)", module.display()))?;
    let component = encode(&module).with_context(|| format!("wrap {name} as a component"))?;
    let path = folder.join(format!("{name}.wasm"));
    publish(&component, &path)?;
    Ok(path)
}

/// Compiles for wasm32 in `folder`, and returns where the profiles' folders lie.
fn cargo(folder: &Path, arguments: &[&str], name: &str) -> Result<PathBuf> {
    let toolchain = toolchain::find()?;
    let _lock = lock()?;
    let output = toolchain
        .cargo()
        .args(["build", "--quiet", "--target", toolchain::TARGET])
        .args(arguments)
        .args(["--config", &flags()])
        .arg("--target-dir")
        .arg(target())
        .args(toolchain.build_std())
        .current_dir(folder)
        .output()
        .with_context(|| format!("start cargo to compile {name}"))?;
    ensure!(
        output.status.success(),
        "compile {name} for {} with {toolchain}:\n{}",
        toolchain::TARGET,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(target().join(toolchain::TARGET))
}

/// What every guest is compiled with, as cargo's `--config` takes it; in the environment it would replace a user's own
/// configuration instead of adding to it.
fn flags() -> String {
    let mut flags: Vec<toml::Value> = vec![
        format!("-Clink-arg=-zstack-size={STACK_BYTES}").into(),
        format!("-Cllvm-args=-inline-threshold={INLINE_THRESHOLD}").into(),
    ];
    // Panics name the file they are in. Where that lies on this machine must not decide a plugin's digest.
    for (folder, name) in [(workspace_root().to_owned(), "mortise"), (cargo_home(), "cargo")] {
        flags.push(format!("--remap-path-prefix={}={name}", folder.display()).into());
    }
    format!("target.{}.rustflags = {}", toolchain::TARGET, toml::Value::from(flags))
}

/// Where cargo keeps the sources of dependencies.
fn cargo_home() -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default().join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// Wraps a core module, which carries its WIT in a custom section, as a component, and validates it.
pub(crate) fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(module)?.encode()
}

/// Puts `bytes` at `path`, whole or not at all. An equal file is left alone, so that its age says when it changed.
fn publish(bytes: &[u8], path: &Path) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let aside = path.with_extension("wasm.new");
    fs::write(&aside, bytes).with_context(|| format!("write {}", aside.display()))?;
    fs::rename(&aside, path).with_context(|| format!("rename {} into place", aside.display()))
}

/// `mortise-plugin-kv` is published as `kv.wasm`.
fn short_name(package: &str) -> &str {
    let prefixes = ["mortise-plugin-", "mortise-example-"];
    prefixes.iter().find_map(|prefix| package.strip_prefix(prefix)).unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_name_drops_the_family() {
        assert_eq!(short_name("mortise-plugin-kv"), "kv");
        assert_eq!(short_name("mortise-example-counter"), "counter");
        assert_eq!(short_name("mortise-hostile"), "mortise-hostile");
    }

    #[test]
    fn a_plugin_names_no_folder_of_the_machine_it_was_compiled_on() -> Result<()> {
        for package in crate::SHIPPED {
            let bytes = crate::bytes(package)?;
            for folder in [workspace_root(), &cargo_home()] {
                let folder = folder.display().to_string();
                let found = bytes.windows(folder.len()).any(|part| part == folder.as_bytes());
                assert!(!found, "{package} names {folder}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_module_without_wit_is_refused() -> Result<()> {
        let module = wat::parse_str("(module)")?;
        assert!(encode(&module[..4]).is_err());
        Ok(())
    }

    #[test]
    fn publish_leaves_an_equal_file_alone() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("mortise-publish-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let path = folder.join("a.wasm");
        publish(b"one", &path)?;
        let written = fs::metadata(&path)?.modified()?;
        publish(b"one", &path)?;
        assert_eq!(fs::metadata(&path)?.modified()?, written);
        publish(b"two", &path)?;
        assert_eq!(fs::read(&path)?, b"two");
        assert!(!path.with_extension("wasm.new").exists());
        fs::remove_dir_all(&folder)?;
        Ok(())
    }
}
