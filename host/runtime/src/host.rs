//! The host functions: the interfaces of `mortise:storage` as a guest calls them.
//!
//! Each one first pays, then checks limits, then copies.

use bytes::Bytes;
use mortise_core::outcome::Limit;
use mortise_core::state::{Direction, KeyRange, StateReader};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType, WasmList, WasmStr};

use crate::abi::{
    DirectionEnum, LevelEnum, Page, RangeRecord, SinkHandle, SourceHandle, TransactionHandle, ViewHandle,
};
use crate::failure::Stop;
use crate::guest::{GET_MANY_KEYS_MAX, Guest};

/// The package that plugins may import from.
pub(crate) const PACKAGE: &str = "mortise:storage";
/// Every version of it that was ever published. None is ever taken away.
pub(crate) const VERSIONS: &[&str] = &["0.1.0"];
/// Its interfaces.
pub(crate) const INTERFACES: &[&str] = &["types", "state", "transfer", "log"];

type Cx<'a> = StoreContextMut<'a, Guest>;
type List = WasmList<u8>;

/// Defines every interface of every version.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for version in VERSIONS {
        let mut state = linker.instance(&format!("{PACKAGE}/state@{version}"))?;
        state.resource("view", ResourceType::host::<ViewHandle>(), |_, _| Ok(()))?;
        state.resource("transaction", ResourceType::host::<TransactionHandle>(), |_, _| Ok(()))?;
        link_reads::<ViewHandle>(&mut state, "view")?;
        link_reads::<TransactionHandle>(&mut state, "transaction")?;
        link_writes(&mut state)?;
        link_transfer(&mut linker.instance(&format!("{PACKAGE}/transfer@{version}"))?)?;
        let mut log = linker.instance(&format!("{PACKAGE}/log@{version}"))?;
        log.func_wrap("write", |cx: Cx<'_>, (level, message): (LevelEnum, WasmStr)| {
            write_log(cx, level, &message)
        })?;
    }
    Ok(())
}

fn link_reads<H: 'static>(state: &mut LinkerInstance<'_, Guest>, resource: &str) -> wasmtime::Result<()> {
    state.func_wrap(
        &format!("[method]{resource}.get"),
        |mut cx: Cx<'_>, (_, key): (Resource<H>, List)| {
            let guest = cx.data_mut();
            guest.charge_call(key.len())?;
            guest.check_key(key.len())?;
            let value = cx.data().overlay()?.get(key.as_le_slice(&cx)).map_err(Stop::from)?;
            Ok((cx.data_mut().value(value)?,))
        },
    )?;
    state.func_wrap(
        &format!("[method]{resource}.get-many"),
        |cx: Cx<'_>, (_, keys): (Resource<H>, WasmList<List>)| Ok((get_many(cx, &keys)?,)),
    )?;
    state.func_wrap(
        &format!("[method]{resource}.scan"),
        |cx: Cx<'_>, (_, range, direction, bytes_max): (Resource<H>, RangeRecord, DirectionEnum, u32)| {
            Ok((scan(cx, &range, direction, bytes_max)?,))
        },
    )
}

fn link_writes(state: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Transaction = Resource<TransactionHandle>;
    state.func_wrap(
        "[method]transaction.put",
        |mut cx: Cx<'_>, (_, key, value): (Transaction, List, List)| {
            let guest = cx.data_mut();
            let bytes = key.len().saturating_add(value.len());
            guest.charge_call(bytes)?;
            guest.check_key(key.len())?;
            guest.check_value(value.len())?;
            guest.count_written(bytes)?;
            let (key, value) = (copy(&cx, &key), copy(&cx, &value));
            let guest = cx.data_mut();
            guest.writes()?.put(key, value);
            Ok(guest.flush_if_large()?)
        },
    )?;
    state.func_wrap("[method]transaction.delete", |mut cx: Cx<'_>, (_, key): (Transaction, List)| {
        let guest = cx.data_mut();
        guest.charge_call(key.len())?;
        guest.check_key(key.len())?;
        guest.count_written(key.len())?;
        let key = copy(&cx, &key);
        let guest = cx.data_mut();
        guest.writes()?.delete(key);
        Ok(guest.flush_if_large()?)
    })?;
    state.func_wrap(
        "[method]transaction.delete-range",
        |mut cx: Cx<'_>, (_, range): (Transaction, RangeRecord)| {
            let range = take_range(&mut cx, &range)?;
            let guest = cx.data_mut();
            guest.count_written(range.start.len() + range.end.as_ref().map_or(0, Bytes::len))?;
            guest.delete_range(range)?;
            Ok(guest.flush_if_large()?)
        },
    )?;
    state.func_wrap("[method]transaction.next-due", |mut cx: Cx<'_>, (_, due): (Transaction, Option<u64>)| {
        let guest = cx.data_mut();
        guest.charge_call(0)?;
        guest.writes()?.set_due(due);
        Ok(())
    })
}

fn link_transfer(transfer: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    transfer.resource("sink", ResourceType::host::<SinkHandle>(), |_, _| Ok(()))?;
    transfer.resource("source", ResourceType::host::<SourceHandle>(), |_, _| Ok(()))?;
    transfer.func_wrap(
        "[method]sink.write",
        |mut cx: Cx<'_>, (_, chunk): (Resource<SinkHandle>, List)| {
            cx.data_mut().charge_call(chunk.len())?;
            let mut at = 0;
            // Piece by piece, so that a chunk as large as the guest's memory is never copied as a whole.
            while let Some(piece) = chunk.as_le_slice(&cx).get(at..).and_then(crate::bulk::piece) {
                let piece = Bytes::copy_from_slice(piece);
                at += piece.len();
                cx.data_mut().line()?.write(&piece)?;
            }
            Ok(())
        },
    )?;
    transfer.func_wrap(
        "[method]source.read",
        |mut cx: Cx<'_>, (_, bytes_max): (Resource<SourceHandle>, u32)| {
            let guest = cx.data_mut();
            guest.charge_call(0)?;
            let chunk = guest.line()?.read(bytes_max as usize)?;
            guest.charge_bytes(chunk.as_ref().map_or(0, Bytes::len) as u64)?;
            Ok((chunk.map(Vec::from),))
        },
    )
}

fn get_many(mut cx: Cx<'_>, keys: &WasmList<List>) -> wasmtime::Result<Vec<Option<Vec<u8>>>> {
    if keys.len() > GET_MANY_KEYS_MAX {
        return Err(Stop::Limit(Limit::ReadBytes).into());
    }
    let mut values = Vec::with_capacity(keys.len());
    cx.data_mut().charge_call(0)?;
    for index in 0..keys.len() {
        let Some(key) = keys.get(&mut cx, index) else { break };
        let key = key?;
        let guest = cx.data_mut();
        guest.charge_key(key.len())?;
        guest.check_key(key.len())?;
        let value = cx.data().overlay()?.get(key.as_le_slice(&cx)).map_err(Stop::from)?;
        values.push(cx.data_mut().value(value)?);
    }
    Ok(values)
}

fn scan(
    mut cx: Cx<'_>,
    range: &RangeRecord,
    direction: DirectionEnum,
    bytes_max: u32,
) -> wasmtime::Result<Page> {
    let range = take_range(&mut cx, range)?;
    let direction = match direction {
        DirectionEnum::Ascending => Direction::Ascending,
        DirectionEnum::Descending => Direction::Descending,
    };
    Ok(cx.data_mut().scan(&range, direction, bytes_max as usize)?)
}

/// A host call's range, paid for and checked.
fn take_range(cx: &mut Cx<'_>, range: &RangeRecord) -> Result<KeyRange, Stop> {
    let guest = cx.data_mut();
    let end_bytes = range.end.as_ref().map_or(0, List::len);
    guest.charge_call(range.start.len().saturating_add(end_bytes))?;
    guest.check_bound(range.start.len())?;
    guest.check_bound(end_bytes)?;
    Ok(KeyRange { start: copy(cx, &range.start), end: range.end.as_ref().map(|end| copy(cx, end)) })
}

fn write_log(mut cx: Cx<'_>, level: LevelEnum, message: &WasmStr) -> wasmtime::Result<()> {
    // As UTF-8, whatever the guest's encoding; a guest's own UTF-8 is not copied here.
    let text = message.to_str(&cx)?.into_owned();
    let guest = cx.data_mut();
    guest.charge_call(text.len())?;
    guest.logs.add(level.into(), &text);
    Ok(())
}

fn copy(cx: &Cx<'_>, list: &List) -> Bytes {
    Bytes::copy_from_slice(list.as_le_slice(cx))
}
