//! Parts of the node, each alone in this process.

mod apply;
mod native;
mod storage;

use anyhow::Result;
use bytes::Bytes;
use mortise_runtime::{Runtime, RuntimeOptions};

use crate::report::Report;
use crate::{Common, VALUE_BYTES};

/// `mortise-bench micro`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Commands that each measurement applies, in rounds of one entry
    #[arg(long, default_value_t = 200_000)]
    commands: usize,
}

/// Runs all of them.
pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::default();
    let runtime = Runtime::new(RuntimeOptions::default())?;
    let plugin = runtime.load(&arguments.common.kv()?)?;
    for commands in [1, 16, 256, 1024] {
        let rounds = (arguments.commands / commands).clamp(50, 20_000);
        apply::measure(&mut report, &plugin, commands, rounds)?;
    }
    apply::calls(&mut report, &plugin)?;
    storage::measure(&mut report, &arguments.common.scratch()?)?;
    Ok(report)
}

/// A put of a key that no other number has, spread over the key space.
struct Put {
    key: Bytes,
    command: Bytes,
}

/// The puts of one entry.
fn puts(entry: usize, count: usize) -> Vec<Put> {
    let puts = (entry * count..(entry + 1) * count).map(|number| {
        let key = key(number as u64);
        let command = mortise_client::kv::put(key.to_vec(), vec![0x61; VALUE_BYTES], 0);
        Put { key, command }
    });
    puts.collect()
}

/// 16 bytes of key. Neighbouring numbers are far apart.
fn key(number: u64) -> Bytes {
    format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).into()
}
