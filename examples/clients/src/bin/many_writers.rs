//! Many callers, each of whom awaits one write at a time, through one client: they share a stream, and their writes
//! share log entries and fsyncs.

use std::time::{Duration, Instant};

use clap::Parser;
use mortise_client::WriterOptions;
use mortise_client::kv::{KeyRange, Kv, RangeOptions};
use mortise_example_clients::Place;
use tokio::task::JoinSet;

/// Writes keys from many tasks at once
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    /// How many tasks write at once
    #[arg(long, default_value_t = 256)]
    callers: usize,
    /// How many keys each of them writes
    #[arg(long, default_value_t = 100)]
    writes: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { place, callers, writes } = Arguments::parse();
    let tenant = place.client().await?.tenant("kv");
    let writer = tenant.writer(WriterOptions::default()).await?;
    let kv = Kv::with_writer(tenant, writer);
    let keys = KeyRange { prefix: b"many/".into(), ..KeyRange::default() };
    kv.delete_range(keys.clone(), false).await?;

    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let kv = kv.clone();
        tasks.spawn(async move {
            let mut longest = Duration::ZERO;
            for write in 0..writes {
                let asked = Instant::now();
                kv.put(format!("many/{caller:04}/{write:06}"), "x".repeat(128), 0).await?;
                longest = longest.max(asked.elapsed());
            }
            anyhow::Ok(longest)
        });
    }
    let mut longest = Duration::ZERO;
    while let Some(done) = tasks.join_next().await {
        longest = longest.max(done??);
    }
    let (total, time) = (callers * writes, begin.elapsed());
    println!("{total} writes in {time:.2?}: {:.0} a second", total as f64 / time.as_secs_f64());
    println!("the longest took {longest:.1?}");

    let (mut counted, mut after) = (0, Some(Vec::new()));
    while let Some(last) = after {
        let options = RangeOptions { count_only: true, after: last, ..RangeOptions::default() };
        let part = kv.range(keys.clone(), options).await?;
        counted += part.count;
        after = part.more.then_some(part.next);
    }
    anyhow::ensure!(counted == total as u64, "{counted} keys are there of {total}");
    Ok(())
}
