//! What a host must refuse or survive, by name.

use crate::hostile::{self, append_section, slow_module};
use anyhow::{Result, bail};
use wasm_encoder::{
    ComponentImportSection, ComponentSection, ComponentTypeRef, ComponentTypeSection, ComponentValType,
    InstanceType, PrimitiveValType,
};
use wasmparser::Validator;

/// The names of all bad guests. The first group is no valid plugin, and an upload must refuse it; the second is
/// one, and misbehaves when called.
///
/// | name | what it is |
/// | --- | --- |
/// | `empty-file`, `not-wasm`, `core-module`, `truncated` | no component |
/// | `empty-component`, `wrong-world`, `wrong-signature` | a component, but no plugin |
/// | `wasi-clock`, `wasi-random`, `unknown-import` | a component that imports what it must not |
/// | `too-big` | a plugin with 40 MiB of padding |
/// | `slow-to-compile` | a plugin with a module of 5 MB, which takes some seconds to compile: set a lower limit |
/// | `bad-manifest-name`, `schema-zero`, `giant-manifest` | a plugin whose `describe` lies |
/// | `FAULT-in-describe`, `FAULT-in-start` | fails while it is looked at, or while an instance is made |
/// | `hostile` | a plugin that does what the command says: `loop`, `eat-memory`, … (see `guests/hostile`) |
/// | `FAULT-in-EXPORT` | always does that fault in that export; any fault and export, not only those listed |
/// | `unfaithful-snapshot` | restore forgets the first pair |
/// | `endless-snapshot` | snapshot writes for ever, if there is any pair |
/// | `error-in-…` | the export returns its error |
pub fn bad_guests() -> &'static [&'static str] {
    &[
        "empty-file",
        "not-wasm",
        "core-module",
        "truncated",
        "empty-component",
        "wrong-world",
        "wrong-signature",
        "wasi-clock",
        "wasi-random",
        "unknown-import",
        "too-big",
        "slow-to-compile",
        "bad-manifest-name",
        "schema-zero",
        "giant-manifest",
        "trap-in-describe",
        "loop-in-describe",
        "eat-memory-in-describe",
        "trap-in-start",
        "loop-in-start",
        // From here on: valid plugins.
        "hostile",
        "trap-in-validate",
        "loop-in-validate",
        "trap-in-apply",
        "loop-in-apply",
        "trap-in-query",
        "loop-in-query",
        "trap-in-expire",
        "loop-in-expire",
        "trap-in-snapshot",
        "loop-in-snapshot",
        "endless-snapshot",
        "error-in-snapshot",
        "unfaithful-snapshot",
        "trap-in-restore",
        "loop-in-restore",
        "error-in-restore",
        "trap-in-migrate",
        "loop-in-migrate",
        "error-in-migrate",
    ]
}

/// The bytes of the bad guest of that name: see [`bad_guests`].
///
/// # Errors
/// No such name, or the hostile guest cannot be compiled (see [`crate::component`]).
pub fn bad_guest(name: &str) -> Result<Vec<u8>> {
    match name {
        "empty-file" => Ok(Vec::new()),
        "not-wasm" => Ok(b"This is a text, and no WebAssembly at all.\n".repeat(100)),
        "core-module" => Ok(wat::parse_str(include_str!("../wat/core-module.wat"))?),
        "empty-component" => Ok(wat::parse_str("(component)")?),
        "wrong-world" => Ok(wat::parse_str(include_str!("../wat/wrong-world.wat"))?),
        "wrong-signature" => Ok(wat::parse_str(include_str!("../wat/wrong-signature.wat"))?),
        "wasi-clock" => with_import("wasi:clocks/monotonic-clock@0.2.0", "now"),
        "wasi-random" => with_import("wasi:random/random@0.2.0", "get-random-u64"),
        "unknown-import" => with_import("mortise:storage/secrets@0.1.0", "read"),
        "truncated" => {
            let mut component = hostile::component("")?;
            component.truncate(component.len() / 2);
            Ok(component)
        }
        // A custom section (id 0), whose name is "pad".
        "too-big" => {
            append_section(&hostile::component("")?, 0, &[b"\x03pad".as_slice(), &[0; 40 << 20]].concat())
        }
        // A core module (id 1): compiled with the rest, although nothing instantiates it.
        "slow-to-compile" => append_section(&hostile::component("")?, 1, &slow_module(100, 4_000)?),
        "hostile" => hostile::component(""),
        _ if bad_guests().contains(&name) || name.contains("-in-") => hostile::component(name),
        _ => bail!("no bad guest is called {name}"),
    }
}

/// A plugin that is right in all but one thing: it also imports `function`, which returns a u64, of `interface`.
fn with_import(interface: &str, function: &str) -> Result<Vec<u8>> {
    let mut component = hostile::component("")?;
    // An import names a type by its number, and sections may stand in any order: so the plugin's own types come
    // first, and the one for this import is the next.
    let next = Validator::new().validate_all(&component)?.as_ref().component_type_count();
    let mut shape = InstanceType::new();
    shape
        .ty()
        .function()
        .params([] as [(&str, ComponentValType); 0])
        .result(Some(PrimitiveValType::U64.into()));
    shape.export(function, ComponentTypeRef::Func(0));
    let mut types = ComponentTypeSection::new();
    types.instance(&shape);
    let mut imports = ComponentImportSection::new();
    imports.import(interface, ComponentTypeRef::Instance(next));
    types.append_to_component(&mut component);
    imports.append_to_component(&mut component);
    Validator::new().validate_all(&component)?;
    Ok(component)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_bad_guest_can_be_made_and_all_differ() -> Result<()> {
        let mut seen = BTreeSet::new();
        for name in bad_guests() {
            assert!(seen.insert(bad_guest(name)?), "{name} equals another bad guest");
        }
        assert!(bad_guest("overflow-stack-in-query").is_ok());
        assert!(bad_guest("harmless").is_err());
        Ok(())
    }

    #[test]
    fn those_that_are_meant_to_be_components_are_valid_ones() -> Result<()> {
        let none = ["empty-file", "not-wasm", "core-module", "truncated"];
        for name in bad_guests() {
            let valid = Validator::new().validate_all(&bad_guest(name)?).is_ok();
            assert_eq!(valid, !none.contains(name) || *name == "core-module", "{name}");
        }
        Ok(())
    }
}
