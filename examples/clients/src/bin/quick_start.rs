//! The quick start: keys, accounts, and an error that says what it is.

use clap::Parser;
use mortise_client::kv::{Expected, Kv};
use mortise_client::ledger::{Ledger, Overdraft, Transfer};
use mortise_client::{ClientError, WriterOptions};
use mortise_example_clients::Place;

/// Writes and reads some keys and accounts
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Arguments::parse().place.client().await?;

    // Each of these is one call. A write is acknowledged when it is durable on every in-sync replica.
    let kv = Kv::new(client.tenant("kv"));
    kv.put("greeting", "hello", 0).await?;
    kv.compare_and_swap("greeting", Expected::Value(b"hello".into()), "good morning", 0).await?;
    let greeting = kv.get("greeting").await?.map(|record| record.value);
    println!("greeting: {}", String::from_utf8_lossy(&greeting.unwrap_or_default()));

    // Through a writer every write takes effect exactly once, whatever breaks on the way.
    let books = client.tenant("ledger");
    let writer = books.writer(WriterOptions::default()).await?;
    let ledger = Ledger::with_writer(books, writer);
    opened(ledger.open("quick-bank", Overdraft::Unlimited).await)?;
    opened(ledger.open("quick-ann", Overdraft::None).await)?;
    ledger.transfer(Transfer::new("quick-bank", "quick-ann", 20)).await?;
    println!("ann has {}", ledger.balance("quick-ann").await?);

    // What a plugin refuses has a code, for programs.
    let refused = ledger.transfer(Transfer::new("quick-ann", "quick-bank", 1_000_000)).await;
    if let Some(rejection) = refused.as_ref().err().and_then(ClientError::rejection) {
        println!("refused: {}: {}", rejection.code, rejection.message);
    }
    Ok(())
}

/// A second run finds the account there.
fn opened<T>(result: Result<T, ClientError>) -> Result<(), ClientError> {
    match result {
        Err(error) if error.rejection().is_some_and(|why| why.code == "account_exists") => Ok(()),
        other => other.map(drop),
    }
}
