//! Requests.

use mortise_commands::kv::{
    self, Get, GetResponse, Range, RangeResponse, Request, Response, request, response,
};
use mortise_sdk::{Context, Direction, KeyRange, Pair, Rejection, View};

use crate::record::{StoredRecord, decode, record_key, record_range, user_key};
use crate::write::{check_key, no_operation};

/// Bytes of stored keys and values that a range looks at before it ends: a quarter of a profile's default limit.
pub(crate) const SCAN_BYTES_MAX: usize = 16 << 20;

/// Records of a range where the request gives no limit.
const LIMIT_DEFAULT: u64 = 1000;
/// Bytes of keys and values in a response. Well below a profile's default limit for replies.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// Answers `request`.
pub(crate) fn query(view: &View<'_>, context: &Context, request: Request) -> Result<Response, Rejection> {
    let result = match request.operation.ok_or_else(no_operation)? {
        request::Operation::Get(get) => response::Result::Get(self::get(view, context, get)?),
        request::Operation::Range(range) => response::Result::Range(scan(view, context, &range)?),
    };
    Ok(Response { result: Some(result) })
}

/// The keys that the message means.
pub(crate) fn keys(keys: kv::KeyRange) -> KeyRange {
    let end = (!keys.end.is_empty()).then_some(keys.end);
    KeyRange::prefix(keys.prefix).intersect(KeyRange { start: keys.start, end })
}

fn get(view: &View<'_>, context: &Context, Get { key }: Get) -> Result<GetResponse, Rejection> {
    check_key(&key)?;
    let stored = view.get(&record_key(&key));
    let record = stored.as_deref().map(decode).transpose()?;
    let live = record.filter(|record| record.is_live(context.time_ms));
    Ok(GetResponse { record: live.map(|record| message(key, &record, true)) })
}

fn scan(view: &View<'_>, context: &Context, range: &Range) -> Result<RangeResponse, Rejection> {
    let direction = if range.reverse { Direction::Descending } else { Direction::Ascending };
    let limit = match (range.limit, range.count_only) {
        (0, true) => u64::MAX,
        (0, false) => LIMIT_DEFAULT,
        (limit, _) => limit.into(),
    };
    let mut response = RangeResponse::default();
    let (mut scanned, mut answered) = (0, 0);
    let mut last: Option<Pair> = None;
    for pair in view.scan(record_range(rest(range))).direction(direction) {
        let record = decode(pair.value())?;
        if record.is_live(context.time_ms) {
            let bytes = pair.key().len() + if range.keys_only { 0 } else { record.value.len() };
            let full = answered + bytes > RESPONSE_BYTES_MAX && !range.count_only;
            if response.count == limit || full && response.count > 0 {
                response.more = true;
                break;
            }
            if !range.count_only {
                response.records.push(message(
                    user_key(pair.key()).unwrap_or_default().to_vec(),
                    &record,
                    !range.keys_only,
                ));
                answered += bytes;
            }
            response.count += 1;
        }
        scanned += pair.key().len() + pair.value().len();
        last = Some(pair);
        if scanned > SCAN_BYTES_MAX {
            response.more = true;
            break;
        }
    }
    if response.more {
        response.next =
            last.map(|pair| user_key(pair.key()).unwrap_or_default().to_vec()).unwrap_or_default();
    }
    Ok(response)
}

/// What is left of the range where the request goes on after a key.
fn rest(range: &Range) -> KeyRange {
    let all = keys(range.keys.clone().unwrap_or_default());
    match (range.after.as_slice(), range.reverse) {
        ([], _) => all,
        (after, true) => all.intersect(KeyRange { start: Vec::new(), end: Some(after.to_vec()) }),
        // The first key after a key is the key with a zero byte behind it.
        (after, false) => all.intersect(KeyRange { start: [after, &[0]].concat(), end: None }),
    }
}

fn message(key: Vec<u8>, record: &StoredRecord<'_>, with_value: bool) -> kv::Record {
    kv::Record {
        key,
        value: if with_value { record.value.to_vec() } else { Vec::new() },
        version: record.version,
        expires_ms: record.expires_ms.unwrap_or_default(),
    }
}
