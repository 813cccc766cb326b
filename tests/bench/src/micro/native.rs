//! The work of an entry without WebAssembly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use mortise_core::digest::{Digest, EffectHasher};
use mortise_core::outcome::Outcome;
use mortise_core::overlay::Overlay;
use mortise_core::state::EmptyState;
use mortise_plugin_kv::{Kv, Protobuf};
use mortise_sdk::{Context, Decode, Encode, Memory, Plugin};

use super::Put;
use super::apply::context;
use crate::VALUE_BYTES;

/// One entry with kv's own logic: decode, apply over the SDK's map in memory, encode; then overlay and digest. The
/// pair is so written twice, into that map and into the overlay.
pub(super) fn entry(puts: &[Put]) -> Result<Duration> {
    let refused = |rejection| anyhow!("a put was refused: {rejection:?}");
    let start = Instant::now();
    let mut overlay = Overlay::new(Arc::new(EmptyState));
    let mut memory = Memory::new();
    let mut link = EffectHasher::new(Digest::default());
    for (sequence, put) in (1..).zip(puts) {
        let context = Context { sequence, time_ms: context(sequence).time.0, principal: None };
        let command = Protobuf::decode(put.command.to_vec()).map_err(refused)?;
        let reply = Kv::apply(&mut memory.transaction(), &context, command).map_err(refused)?;
        let reply = Protobuf::encode(&reply).map_err(refused)?;
        write(&mut overlay, &mut link, sequence, put, reply.into());
    }
    drop((overlay.into_layer(), memory));
    std::hint::black_box(link.finish());
    Ok(start.elapsed())
}

/// One entry of nothing but overlay and digest.
pub(super) fn overlay_and_digest(puts: &[Put]) -> Duration {
    let start = Instant::now();
    let mut overlay = Overlay::new(Arc::new(EmptyState));
    let mut link = EffectHasher::new(Digest::default());
    for (sequence, put) in (1..).zip(puts) {
        write(&mut overlay, &mut link, sequence, put, Bytes::from_static(&[8, 1]));
    }
    drop(overlay.into_layer());
    std::hint::black_box(link.finish());
    start.elapsed()
}

fn write(overlay: &mut Overlay, link: &mut EffectHasher, sequence: u64, put: &Put, reply: Bytes) {
    // Key and value are copied, as they are out of a guest's memory.
    let value = Bytes::copy_from_slice(&[0x61; VALUE_BYTES]);
    overlay.command_mut().put(Bytes::copy_from_slice(&put.key), value);
    link.add(&context(sequence), &Outcome::Applied(reply), overlay.command());
    overlay.accept();
}
