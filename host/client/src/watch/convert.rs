//! Messages of a watch as types.

use mortise_core::layer::Effect;
use mortise_core::state::KeyRange;
use mortise_proto::v1;
use mortise_proto::v1::watch_effect::Effect as Message;
use mortise_proto::v1::watch_event::{Cause, Outcome};

use super::WatchEvent;
use crate::admin::lacking;
use crate::error::ClientError;

pub(super) fn event(event: v1::WatchEvent) -> Result<WatchEvent, ClientError> {
    let v1::WatchEvent { sequence, position: at, time_ms, principal, cause, outcome, effects } = event;
    Ok(WatchEvent {
        sequence,
        position: at.ok_or_else(|| lacking("position"))?.into(),
        time_ms,
        principal: Some(principal).filter(|principal| !principal.is_empty()),
        command: match cause.ok_or_else(|| lacking("command"))? {
            Cause::Command(command) => Some(command),
            Cause::Expiration(_) => None,
        },
        outcome: match outcome.ok_or_else(|| lacking("outcome"))? {
            Outcome::Reply(reply) => Ok(reply),
            Outcome::Error(detail) => Err(detail.into()),
        },
        effects: effects.into_iter().map(effect).collect::<Result<_, _>>()?,
    })
}

fn effect(effect: v1::WatchEffect) -> Result<Effect, ClientError> {
    Ok(match effect.effect.ok_or_else(|| lacking("effect"))? {
        Message::Put(v1::WatchPut { key, value }) => Effect::Put(key, value),
        Message::Deleted(key) => Effect::Delete(key),
        Message::DeletedRange(v1::WatchRange { start, end }) => Effect::DeleteRange(KeyRange { start, end }),
    })
}
