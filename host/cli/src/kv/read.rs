//! `mortise kv get` and `range`.

use clap::Args;
use mortise_client::kv::{KeyRange, Kv, RangeOptions, Record};
use serde_json::{Map, Value};

use crate::context::Context;
use crate::data::FreshnessArguments;
use crate::errors::Failure;
use crate::output;

/// Arguments of `range`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints a line for each key: the key, a tab, the value; what is no text of one line in hexadecimal, after 0x. Without START and END, all keys.

Examples:
  mortise kv range a m                    from a up to, but without, m
  mortise kv range user/ --prefix --keys-only
  mortise kv range --count-only")]
pub(crate) struct RangeArguments {
    /// The first key; with --prefix, the prefix
    start: Option<String>,
    /// The key before which to end
    #[arg(conflicts_with = "prefix")]
    end: Option<String>,
    /// All keys that begin with START
    #[arg(long, requires = "start")]
    prefix: bool,
    /// At most so many keys [default: all]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// From the last key to the first
    #[arg(long)]
    reverse: bool,
    /// Without the values
    #[arg(long)]
    keys_only: bool,
    /// Only how many there are
    #[arg(long, conflicts_with_all = ["keys_only", "limit", "reverse"])]
    count_only: bool,
    #[command(flatten)]
    freshness: FreshnessArguments,
}

/// A range as the plugin takes it. An empty bound is none.
pub(super) fn keys(start: Vec<u8>, end: Option<Vec<u8>>, prefix: bool) -> KeyRange {
    if prefix {
        return KeyRange { prefix: start, ..KeyRange::default() };
    }
    KeyRange { start, end: end.unwrap_or_default(), ..KeyRange::default() }
}

/// Runs `get`.
pub(super) async fn get(
    kv: &Kv,
    tenant: &str,
    key: Vec<u8>,
    hex: bool,
    context: &Context,
) -> anyhow::Result<()> {
    let Some(record) = kv.get(key.clone()).await? else {
        let key = if hex { output::hex(&key) } else { String::from_utf8_lossy(&key).into_owned() };
        return Err(Failure::not_found(format!(
            "there is no key {key:?} in tenant {tenant}; `mortise kv range --keys-only` lists what there is"
        ))
        .into());
    };
    if context.json {
        return output::json(&describe(&record, hex, false));
    }
    if hex {
        return output::line(&output::hex(&record.value));
    }
    if output::is_terminal() {
        return output::line(&output::text_or_hex(&record.value));
    }
    // As it is: it may be a file.
    let newline = if std::str::from_utf8(&record.value).is_ok() { "\n" } else { "" };
    output::raw(&[&record.value, newline.as_bytes()].concat())
}

/// Runs `range`: page by page, so that it takes no more memory than one.
pub(super) async fn range(
    connect: &impl AsyncFn() -> anyhow::Result<Kv>,
    arguments: RangeArguments,
    hex: bool,
    context: &Context,
) -> anyhow::Result<()> {
    let RangeArguments { start, end, prefix, limit, reverse, keys_only, count_only, freshness } = arguments;
    let start = start.map(|start| super::bytes(&start, hex)).transpose()?.unwrap_or_default();
    let end = end.map(|end| super::bytes(&end, hex)).transpose()?;
    let keys = keys(start, end, prefix);
    let kv = connect().await?.reading(freshness.choice());
    let mut options = RangeOptions { reverse, keys_only, count_only, ..RangeOptions::default() };
    let mut left = limit.unwrap_or(u64::MAX);
    let (mut count, mut first) = (0, true);
    loop {
        // 0: as many as fit.
        options.limit = if limit.is_some() { u32::try_from(left).unwrap_or(0).min(1000) } else { 0 };
        let page = kv.range(keys.clone(), options.clone()).await?;
        count += page.count;
        left = left.saturating_sub(page.count);
        if !count_only {
            let mut text = String::new();
            for record in &page.records {
                if context.json {
                    text.push_str(if first { "[" } else { ",\n" });
                    text.push_str(&Value::from(describe(record, hex, keys_only)).to_string());
                } else {
                    text.push_str(&line(record, hex, keys_only));
                }
                first = false;
            }
            output::raw(text.as_bytes())?;
        }
        if !page.more || left == 0 {
            break;
        }
        options.after = page.next;
    }
    if count_only {
        return context.print(&serde_json::json!({ "count": count }), |_| count.to_string());
    }
    if context.json { output::line(if first { "[]" } else { "]" }) } else { Ok(()) }
}

fn line(record: &Record, hex: bool, keys_only: bool) -> String {
    let show = |bytes: &[u8]| if hex { output::hex(bytes) } else { output::word(bytes) };
    match keys_only {
        true => format!("{}\n", show(&record.key)),
        false => format!("{}\t{}\n", show(&record.key), show(&record.value)),
    }
}

/// Adds bytes to JSON: what is no text, or was asked for in hexadecimal, under a name with `_hex` behind it.
pub(super) fn insert(object: &mut Map<String, Value>, name: &str, bytes: &[u8], hex: bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !hex => object.insert(name.into(), text.into()),
        _ => object.insert(format!("{name}_hex"), output::hex(bytes).into()),
    };
}

/// As JSON.
fn describe(record: &Record, hex: bool, keys_only: bool) -> Map<String, Value> {
    let mut object = Map::new();
    insert(&mut object, "key", &record.key, hex);
    if !keys_only {
        insert(&mut object, "value", &record.value, hex);
    }
    object.insert("version".into(), record.version.into());
    if record.expires_ms > 0 {
        object.insert("expires_ms".into(), record.expires_ms.into());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_print_as_text_or_hexadecimal() {
        let record = Record { key: b"k".to_vec(), value: vec![0xff], version: 3, expires_ms: 0 };
        assert_eq!(line(&record, false, false), "k\t0xff\n");
        assert_eq!(line(&record, true, true), "6b\n");
        let object = Value::from(describe(&record, false, false));
        assert_eq!(object, serde_json::json!({"key": "k", "value_hex": "ff", "version": 3}));
    }

    #[test]
    fn ranges_have_the_bounds_asked_for() {
        assert_eq!(keys(b"a".to_vec(), None, true).prefix, b"a");
        assert_eq!(keys(b"a".to_vec(), Some(b"m".to_vec()), false).end, b"m");
    }
}
