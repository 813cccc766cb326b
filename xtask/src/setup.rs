//! What this repository needs besides rustup's stable toolchain and a C compiler, and how it gets here.
//!
//! A need that is met is left alone. Everything goes below `target/tools`, so no step needs to be root, and
//! removing the folder undoes it; the one exception is the target that rustup adds to its own toolchain.

mod cargo_deny;
mod debian;
mod etcd;
mod protoc;
mod python;
mod wasm32;

use crate::run::say;
use anyhow::{Context, Result, bail};

/// One thing that must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A compiler with a standard library for plugins.
    Wasm32,
    /// The protobuf compiler.
    Protoc,
    /// The server that coordinates nodes.
    Etcd,
    /// The checker of dependencies.
    CargoDeny,
    /// gRPC's packages for Python.
    PythonGrpc,
}

/// Everything that `cargo xtask test` uses.
pub(crate) const ALL: &[Need] = &[Need::Wasm32, Need::Protoc, Need::Etcd, Need::CargoDeny, Need::PythonGrpc];

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Wasm32 => "wasm32 standard library",
            Self::Protoc => "protoc",
            Self::Etcd => "etcd",
            Self::CargoDeny => "cargo-deny",
            Self::PythonGrpc => "grpcio",
        }
    }

    fn why(self) -> &'static str {
        match self {
            Self::Wasm32 => "plugins are compiled to wasm32-unknown-unknown",
            Self::Protoc => "the etcd client's build script insists on it",
            Self::Etcd => "the tests of coordination run against a real one",
            Self::CargoDeny => "lint checks licences, sources and advisories of dependencies with it",
            Self::PythonGrpc => "the tests run the example in Python",
        }
    }

    /// Where it is, if it is there.
    fn found(self) -> Option<String> {
        match self {
            Self::Wasm32 => wasm32::found(),
            Self::Protoc => protoc::found(),
            Self::Etcd => etcd::found(),
            Self::CargoDeny => cargo_deny::found(),
            Self::PythonGrpc => python::found(),
        }
    }

    fn install(self) -> Result<()> {
        match self {
            Self::Wasm32 => wasm32::install(),
            Self::Protoc => protoc::install(),
            Self::Etcd => etcd::install(),
            Self::CargoDeny => cargo_deny::install(),
            Self::PythonGrpc => python::install(),
        }
    }
}

/// Installs those of `needs` that are missing.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    for need in needs {
        if need.found().is_some() {
            continue;
        }
        say(&format!("{} is missing; {}", need.name(), need.why()));
        need.install().with_context(|| format!("install {}", need.name()))?;
        let Some(place) = need.found() else {
            bail!("{} was installed, but does not work", need.name());
        };
        say(&format!("{} installed: {place}", need.name()));
    }
    Ok(())
}

/// Says what is there; fails if anything is missing.
pub(crate) fn report() -> Result<()> {
    let mut missing = Vec::new();
    for need in ALL {
        match need.found() {
            Some(place) => println!("{:<24} {place}", need.name()),
            None => {
                println!("{:<24} missing: {}", need.name(), need.why());
                missing.push(need.name());
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("`cargo xtask setup` installs what is missing: {}", missing.join(", "))
}
