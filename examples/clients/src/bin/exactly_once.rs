//! Exactly once, across kill −9: moves one unit after another from one account to another, and looks at the end whether
//! every move happened once. Kill the node with `kill -9` meanwhile, and start it again: nothing is lost, nothing
//! happens twice, and this program need not do anything about it.

use clap::Parser;
use mortise_client::WriterOptions;
use mortise_client::ledger::{Ledger, Overdraft, Transfer};
use mortise_example_clients::Place;

/// How many moves are on their way at once.
const IN_FLIGHT: u64 = 64;

/// Moves units between two new accounts, exactly once each
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    /// How many units to move
    #[arg(long, default_value_t = 10_000)]
    units: u64,
    /// What the accounts' names begin with: there must be none yet
    #[arg(long, default_value = "once")]
    name: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { place, units, name } = Arguments::parse();
    let tenant = place.client().await?.tenant("ledger");
    // As long as it takes: whoever watches may need time to start the node again.
    let options = WriterOptions { timeout: None, ..WriterOptions::default() };
    let writer = tenant.writer(options).await?;
    let ledger = Ledger::with_writer(tenant, writer);
    let (from, to) = (format!("{name}-from"), format!("{name}-to"));
    ledger.open(&from, Overdraft::Unlimited).await?;
    ledger.open(&to, Overdraft::None).await?;

    let mut moved = 0;
    while moved < units {
        let now = IN_FLIGHT.min(units - moved);
        // Without an idempotency key: the session's sequence numbers do the same work.
        let moves = (0..now).map(|_| {
            let (ledger, transfer) = (ledger.clone(), Transfer::new(&from, &to, 1));
            tokio::spawn(async move { ledger.transfer(transfer).await })
        });
        for done in moves.collect::<Vec<_>>() {
            done.await??;
        }
        moved += now;
        println!("{moved} of {units} moved");
    }
    let (from, to) = (ledger.balance(from).await?, ledger.balance(to).await?);
    println!("balances: {from} and {to}");
    anyhow::ensure!(i64::try_from(units)? == to && from == -to, "not every unit was moved exactly once");
    Ok(())
}
