//! From bytes that somebody uploaded to a plugin: every check that can be made before it is first used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mortise_core::ids::PluginDigest;
use mortise_core::outcome::Failure;
use mortise_core::profile::Profile;
use wasmtime::component::Component;
use wasmtime::wasmparser::{ComponentTypeRef, Parser, Payload};

use crate::compile::CompileError;
use crate::failure::LocalFault;
use crate::host::{INTERFACES, PACKAGE, VERSIONS};
use crate::instance::Instance;
use crate::machine::{EXPORTS, Machine, Mounted, Runtime};
use crate::manifest::{Manifest, ManifestError};
use crate::plugin::Plugin;

/// The first bytes of all WebAssembly.
const MAGIC: &[u8] = b"\0asm";
/// What follows in a core module: version 1.
const CORE_MODULE: &[u8] = &[1, 0, 0, 0];

/// Why a component is no plugin, or could not be loaded. Every message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are no WebAssembly.
    #[error(
        "this is no WebAssembly file (it has {bytes} bytes); upload the component that the plugin's build makes"
    )]
    NotWasm {
        /// Its length.
        bytes: usize,
    },
    /// It is a core module.
    #[error(
        "this is a core module, not a component; turn it into one (`cargo xtask plugins` does, or `wasm-tools component new`)"
    )]
    CoreModule,
    /// It is too long.
    #[error(
        "the component has {bytes} bytes, more than the {bytes_max} allowed; build it optimised and without debug \
         information, or raise the node's limit"
    )]
    TooBig {
        /// Its length.
        bytes: usize,
        /// [`RuntimeOptions::component_bytes_max`](crate::RuntimeOptions::component_bytes_max).
        bytes_max: usize,
    },
    /// It is damaged, or uses features of WebAssembly that plugins may not.
    #[error(
        "the component is not valid: {reason}; build it again, without threads and other optional features"
    )]
    Malformed {
        /// What the validator says.
        reason: String,
    },
    /// It imports what plugins may not.
    #[error(
        "the component imports `{import}`, but a plugin may import only the interfaces of `mortise:storage`; build it \
         for wasm32-unknown-unknown, without WASI"
    )]
    ForeignImport {
        /// The import's name.
        import: String,
    },
    /// It imports an interface of ours that this release does not have.
    #[error(
        "the component imports `{import}`, which this release does not know; use a newer release, or an older SDK"
    )]
    UnknownInterface {
        /// The import's name.
        import: String,
    },
    /// It imports an interface of ours with functions that are not as published.
    #[error(
        "the component's imports are not those of `mortise:storage`: {reason}; build it with this package's WIT"
    )]
    WrongImport {
        /// What differs.
        reason: String,
    },
    /// An export is missing, or has another type.
    #[error(
        "the component's export `{export}` is not that of `mortise:storage`: {reason}; build it for world `plugin`"
    )]
    WrongExport {
        /// The export.
        export: &'static str,
        /// What differs.
        reason: String,
    },
    /// Compiling takes too long.
    #[error("compiling the component takes more than {} s; make it smaller, or raise the node's limit", time_max.as_secs_f32())]
    CompileTooSlow {
        /// [`RuntimeOptions::compile_time_max`](crate::RuntimeOptions::compile_time_max).
        time_max: Duration,
    },
    /// Another component is still being compiled.
    #[error("another component is still being compiled, for more than {} s; try again later", time_max.as_secs_f32())]
    CompilerBusy {
        /// [`RuntimeOptions::compile_time_max`](crate::RuntimeOptions::compile_time_max).
        time_max: Duration,
    },
    /// The plugin's start code failed.
    #[error("an instance of the plugin cannot be made: {0}; its start code must be short and must not fail")]
    StartFailed(Failure),
    /// `describe` failed.
    #[error("the plugin's describe failed: {0}; it must return a constant")]
    DescribeFailed(Failure),
    /// `describe` returned what no manifest may be.
    #[error("the plugin's manifest is wrong: {0}")]
    BadManifest(#[from] ManifestError),
    /// This machine failed, not the plugin.
    #[error(transparent)]
    Local(#[from] LocalFault),
}

/// How much a component may ask of this machine before it is a plugin.
pub(crate) struct LoadLimits {
    pub(crate) component_bytes_max: usize,
    pub(crate) compile_time_max: Duration,
}

pub(crate) fn load(runtime: &Runtime, bytes: &[u8], limits: &LoadLimits) -> Result<Plugin, LoadError> {
    check_header(bytes, limits.component_bytes_max)?;
    check_imports(bytes)?;
    let digest = PluginDigest::of(bytes);
    let machine = runtime.base();
    let began = Instant::now();
    let cached = runtime.cache().and_then(|cache| cached(cache.get(digest, machine.engine())?, machine));
    let from_cache = cached.is_some();
    let component = match cached {
        Some(component) => component,
        None => compile(runtime, bytes, limits.compile_time_max)?,
    };
    let compile_time = began.elapsed();
    let mounted = Mounted::new(machine.clone(), component);
    let mounted = mounted.map_err(|error| LoadError::WrongImport { reason: format!("{error:#}") })?;
    let mounted = Arc::new(mounted);
    let manifest = describe(&mounted)?;
    if let Some(cache) = runtime.cache().filter(|_| !from_cache) {
        let serialized = mounted.component().serialize();
        cache.put(digest, machine.engine(), &serialized.map_err(|error| LocalFault::Call(error.into()))?);
    }
    Ok(Plugin::new(runtime.clone(), digest, manifest, bytes.len(), compile_time, from_cache, mounted))
}

fn check_header(bytes: &[u8], bytes_max: usize) -> Result<(), LoadError> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(LoadError::NotWasm { bytes: bytes.len() });
    };
    if rest.starts_with(CORE_MODULE) {
        return Err(LoadError::CoreModule);
    }
    if bytes.len() > bytes_max {
        return Err(LoadError::TooBig { bytes: bytes.len(), bytes_max });
    }
    Ok(())
}

fn cached(serialized: Vec<u8>, machine: &Machine) -> Option<Component> {
    match machine.deserialize(&serialized) {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::warn!(%error, "a compiled plugin does not fit; compiling it again");
            None
        }
    }
}

fn compile(runtime: &Runtime, bytes: &[u8], time_max: Duration) -> Result<Component, LoadError> {
    let result = runtime.compiler().compile(runtime.base().engine(), bytes, time_max);
    result.map_err(|error| match error {
        CompileError::Invalid(reason) => LoadError::Malformed { reason },
        CompileError::Slow => LoadError::CompileTooSlow { time_max },
        CompileError::Busy => LoadError::CompilerBusy { time_max },
        CompileError::Thread(reason) => LoadError::Local(LocalFault::Thread(reason)),
    })
}

/// Names the first import that is not allowed, before anything is compiled: a component with a language's WASI imports
/// takes seconds for that. Types of imports are compared by linking.
fn check_imports(bytes: &[u8]) -> Result<(), LoadError> {
    // Modules and components inside have imports of their own, which the component itself satisfies.
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    let import = import.map_err(malformed)?;
                    check_import(import.name.name, import.ty)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn malformed(error: wasmtime::wasmparser::BinaryReaderError) -> LoadError {
    LoadError::Malformed { reason: error.to_string() }
}

fn check_import(import: &str, item: ComponentTypeRef) -> Result<(), LoadError> {
    // A world that says `use` imports the names it uses. They are aliases of what the interfaces define, or else
    // linking fails.
    if matches!(item, ComponentTypeRef::Type(_)) && !import.contains('/') {
        return Ok(());
    }
    let Some(rest) = import.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')) else {
        return Err(LoadError::ForeignImport { import: import.to_owned() });
    };
    let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
    if !INTERFACES.contains(&interface) || !VERSIONS.contains(&version) {
        return Err(LoadError::UnknownInterface { import: import.to_owned() });
    }
    Ok(())
}

fn describe(mounted: &Arc<Mounted>) -> Result<Manifest, LoadError> {
    let limits = Arc::new(Profile::default());
    let mut instance = Instance::new(mounted, &limits)?.map_err(LoadError::StartFailed)?;
    for export in EXPORTS {
        instance.check_export(export).map_err(|reason| LoadError::WrongExport { export, reason })?;
    }
    match instance.describe() {
        Ok(Ok(record)) => Ok(Manifest::try_from(record)?),
        Ok(Err(failure)) => Err(LoadError::DescribeFailed(failure)),
        // wasmtime's error for "more than may be copied out of the guest" has no public type.
        Err(LocalFault::Call(error)) => {
            let problem = format!("as a whole cannot be read: {error}");
            Err(ManifestError { field: "manifest", problem }.into())
        }
        Err(fault) => Err(fault.into()),
    }
}
