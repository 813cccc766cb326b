//! The mode: what this copy of the component does wrong, patched into its bytes after it was compiled.
//!
//! `FAULT-in-EXPORT` for any fault and export (`trap-in-snapshot`, `loop-in-describe`), and besides:
//! `bad-manifest-name`, `schema-zero`, `giant-manifest`, `unfaithful-snapshot`, `endless-snapshot`,
//! `error-in-snapshot`, `error-in-restore`, `error-in-migrate`. `FAULT-in-start` needs a start function, which
//! `bad_guest` adds.

use crate::fault::{Host, misbehave};
use std::hint::black_box;

/// How the patcher finds the place: this text stands once in the data section. Keep it equal to
/// `mortise_artifacts::hostile::MARK`.
const MARK: &str = "mortise-hostile-mode:";

/// The mark, and room for a mode, filled up with dots: zeros might be left out of the data section.
static MODE: [u8; 61] = *b"mortise-hostile-mode:........................................";

/// The present mode; empty where nothing was patched in.
fn mode() -> &'static str {
    // Without the black box the compiler would read the text above while it compiles.
    let mode = &black_box(&MODE)[MARK.len()..];
    std::str::from_utf8(mode).unwrap_or_default().trim_end_matches('.')
}

/// Whether this copy has that mode.
pub(crate) fn is(wanted: &str) -> bool {
    mode() == wanted
}

/// Does this copy's fault, if it belongs into `export`. A refusal is no fault here: only a trap or a limit is.
pub(crate) fn fault_in(export: &str, host: &Host<'_>) {
    if let Some((fault, place)) = mode().split_once("-in-")
        && place == export
        && !fault.starts_with("error")
    {
        let _ = misbehave(fault, host);
    }
}

/// What runs while an instance is made, where `bad_guest` declared it as the module's start function.
#[unsafe(no_mangle)] // Nothing else is called so.
pub(crate) extern "C" fn mortise_hostile_start() {
    fault_in("start", &Host::Nothing);
}
