//! Stories of the replication protocol: each script in `scripts/` shows one behaviour of a group of replicas in a small
//! world without chance, where everything works at once unless the script says otherwise. The commands are those
//! of [`command::Command`].
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p mortise-core --test replica` writes what happens now into the scripts: read the
//! difference as carefully as a change of the protocol.

#![allow(clippy::expect_used)] // What a story takes for granted fails the test where it does not hold.

mod command;
mod forge;
mod hostile;
mod render;
mod script;
mod world;

use std::path::Path;

test_each_file::test_each_path! { in "host/core/tests/replica/scripts" as story => tell }

fn tell(path: &Path) {
    goldenscript::run(&mut script::Story::default(), path).expect("the story runs");
}
