//! The hostile guest (`guests/hostile`), compiled once and patched into each of its variants.

use crate::guest;
use anyhow::{Context, Result, ensure};
use std::borrow::Cow;
use wasmparser::{ExternalKind, Parser, Payload};

/// Stands once in the guest's data section, before the room for the mode. The guest's `mode.rs` has the same text.
const MARK: &[u8] = b"mortise-hostile-mode:";

/// The room for the mode.
const MODE_BYTES: usize = 40;

/// The name of the function that `FAULT-in-start` declares as the module's start function.
const START: &str = "mortise_hostile_start";

/// The hostile plugin as a component, in `mode` (see the guest's `mode.rs`; empty: it does only what commands say).
pub(crate) fn component(mode: &str) -> Result<Vec<u8>> {
    let mut module = guest::module("mortise-hostile")?;
    patch(&mut module, mode)?;
    let module = if mode.ends_with("-in-start") { with_start(&module)? } else { module };
    guest::encode(&module).with_context(|| format!("wrap the hostile guest ({mode}) as a component"))
}

/// Writes `mode` into the room behind the mark.
fn patch(module: &mut [u8], mode: &str) -> Result<()> {
    ensure!(mode.len() <= MODE_BYTES, "the mode {mode} has more than {MODE_BYTES} bytes");
    let places: Vec<usize> =
        module.windows(MARK.len()).enumerate().filter(|(_, at)| *at == MARK).map(|(n, _)| n).collect();
    ensure!(places.len() == 1, "the hostile guest holds its mark {} times, not once", places.len());
    let start = places[0] + MARK.len();
    let room = module.get_mut(start..start + MODE_BYTES).context("the hostile guest ends within its mode")?;
    room.fill(b'.');
    room[..mode.len()].copy_from_slice(mode.as_bytes());
    Ok(())
}

/// The module with a start section (id 8) that names the exported function [`START`]. Its place is right behind the
/// exports.
fn with_start(module: &[u8]) -> Result<Vec<u8>> {
    for payload in Parser::new(0).parse_all(module) {
        let Payload::ExportSection(exports) = payload? else { continue };
        let behind = exports.range().end as usize;
        for export in exports {
            let export = export?;
            if export.name == START && export.kind == ExternalKind::Func {
                let index = leb128(export.index);
                let mut with = module[..behind].to_vec();
                with.extend([8, index.len() as u8]);
                with.extend(&index);
                with.extend(&module[behind..]);
                return Ok(with);
            }
        }
    }
    anyhow::bail!("the hostile guest does not export {START}")
}

/// `value` as wasm writes integers: seven bits a byte, the highest bit says that more follow.
pub(crate) fn leb128(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A component with one more section at its end: of that kind, with those contents.
pub(crate) fn append_section(component: &[u8], id: u8, contents: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(contents.len()).context("a section has less than 4 GiB")?;
    let mut longer = Vec::with_capacity(component.len() + contents.len() + 6);
    longer.extend_from_slice(component);
    longer.push(id);
    longer.extend(leb128(length));
    longer.extend_from_slice(contents);
    Ok(longer)
}

/// A core module that validates and is never instantiated, but takes long to compile: `functions` functions of
/// `steps` dependent steps each.
pub(crate) fn slow_module(functions: usize, steps: usize) -> Result<Vec<u8>> {
    let step = "local.get 0 local.get 1 i64.mul local.get 0 i64.rotl local.tee 1 i64.popcnt local.set 0\n";
    let body = Cow::from(step.repeat(steps));
    let function = format!("(func (param i64 i64) (result i64)\n{body}local.get 0)\n");
    Ok(wat::parse_str(format!("(module\n{})", function.repeat(functions)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leb128_is_that_of_wasm() {
        assert_eq!(leb128(0), [0]);
        assert_eq!(leb128(127), [127]);
        assert_eq!(leb128(624_485), [0xE5, 0x8E, 0x26]);
    }

    #[test]
    fn a_mode_fills_its_room_and_a_longer_one_is_refused() -> Result<()> {
        let mut module = [MARK, &[b'.'; MODE_BYTES], b"behind"].concat();
        patch(&mut module, "trap-in-query")?;
        patch(&mut module, "loop")?;
        assert!(module.starts_with(b"mortise-hostile-mode:loop...."));
        assert!(module.ends_with(b"..behind"));
        assert!(patch(&mut module, &"x".repeat(MODE_BYTES + 1)).is_err());
        assert!(patch(&mut [0; 99], "loop").is_err());
        Ok(())
    }

    #[test]
    fn an_appended_section_leaves_a_valid_component() -> Result<()> {
        let component = wat::parse_str("(component)")?;
        let longer = append_section(&append_section(&component, 1, &slow_module(2, 3)?)?, 0, b"\x03pad....")?;
        wasmparser::Validator::new().validate_all(&longer)?;
        Ok(())
    }
}
