//! Applies log entries: a fresh instance for each, one call for each command.

use std::sync::Arc;

use bytes::Bytes;
use mortise_core::digest::{Context, Digest, EffectHasher};
use mortise_core::layer::{Effect, Layer};
use mortise_core::outcome::{Failure, Limit, Outcome};
use mortise_core::overlay::Overlay;
use mortise_core::profile::Profile;
use mortise_core::state::StateReader;

use crate::failure::LocalFault;
use crate::instance::Instance;
use crate::logs::Logs;
use crate::machine::Mounted;
use crate::plugin::Plugin;

/// An instance, or why the plugin's own code prevents one. The latter is the outcome of every command.
type Seat = Result<Instance, Failure>;

/// Applies the entries of one tenant, one after the other.
pub struct Applier {
    plugin: Plugin,
    limits: Arc<Profile>,
    mounted: Option<Arc<Mounted>>,
    warm: Option<Seat>,
}

impl Applier {
    pub(crate) fn new(plugin: Plugin, limits: Arc<Profile>) -> Self {
        Self { plugin, limits, mounted: None, warm: None }
    }

    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The profile that commands run under.
    pub fn limits(&self) -> &Arc<Profile> {
        &self.limits
    }

    /// Prepares the next entry's instance, off the write path. Nothing happens where one is ready.
    pub fn warm(&mut self) -> Result<(), LocalFault> {
        if self.warm.is_none() {
            self.warm = Some(self.seat()?);
        }
        Ok(())
    }

    /// Begins an entry over `state`, in the warm instance or, without one, in a new one. `previous` is the last link of
    /// the tenant's chain of effect digests.
    pub fn begin(
        &mut self,
        state: Arc<dyn StateReader>,
        previous: Digest,
    ) -> Result<EntryCalls<'_>, LocalFault> {
        let seat = match self.warm.take() {
            Some(seat) => seat,
            None => self.seat()?,
        };
        let mut calls = EntryCalls {
            applier: self,
            seat: None,
            spare: Some(Overlay::new(state)),
            link: EffectHasher::new(previous),
            keep_effects: false,
        };
        calls.take_seat(seat);
        Ok(calls)
    }

    fn seat(&mut self) -> Result<Seat, LocalFault> {
        let mounted = match &self.mounted {
            Some(mounted) => mounted,
            None => self.mounted.insert(self.plugin.mounted(&self.limits)?),
        };
        Instance::new(mounted, &self.limits)
    }
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier").field("plugin", &self.plugin).field("warm", &self.warm.is_some()).finish()
    }
}

/// The calls of one entry. After a [`LocalFault`] it must be dropped.
///
/// Invariant: the overlay is lent to the instance in `seat`, or, where there is none, lies in `spare`.
pub struct EntryCalls<'a> {
    applier: &'a mut Applier,
    /// `None` after a failed call, until the next one.
    seat: Option<Seat>,
    spare: Option<Overlay>,
    /// What the calls so far add to the tenant's chain of effect digests.
    link: EffectHasher,
    keep_effects: bool,
}

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The outcome, to be recorded.
    pub outcome: Outcome,
    /// Fuel used.
    pub fuel: u64,
    /// Bytes that the instance's memories have grown to, over the commands of the entry so far.
    pub memory_bytes: u64,
    /// The net writes, where [`EntryCalls::keep_effects`] asks for them. They do not tell of `next-due`.
    pub effects: Option<Vec<Effect>>,
    /// What the plugin logged, also where it failed.
    pub logs: Logs,
}

/// What a call returned, before it is accepted or discarded.
type Called = Result<Result<Outcome, Failure>, LocalFault>;

impl EntryCalls<'_> {
    /// Whether [`Applied::effects`] is wanted. Off at first.
    pub fn keep_effects(&mut self, keep: bool) {
        self.keep_effects = keep;
    }

    /// Applies one command. If it took effect, its writes are accepted, else discarded; either way the outcome
    /// becomes part of the entry's digest. Commands after one that failed run in a new instance.
    pub fn apply(&mut self, context: &Context, command: &[u8]) -> Result<Applied, LocalFault> {
        let reply_bytes_max = self.applier.limits.reply_bytes_max;
        self.run(context, None, |instance| {
            Ok(instance.apply(context, command)?.and_then(|result| match result {
                Ok(reply) if reply.len() as u64 > reply_bytes_max => {
                    Err(Failure::LimitExceeded { limit: Limit::ReplyBytes })
                }
                Ok(reply) => Ok(Outcome::Applied(reply.into())),
                Err(rejection) => Ok(Outcome::Rejected(rejection.into())),
            }))
        })
    }

    /// Calls `expire`. `next-due` is cleared before, and stays so where the call fails: what fails once would fail
    /// for ever.
    pub fn expire(&mut self, context: &Context) -> Result<Applied, LocalFault> {
        let cleared = Some(None);
        self.run(context, cleared, |instance| {
            Ok(instance.expire(context)?.map(|()| Outcome::Applied(Bytes::new())))
        })
    }

    /// What the entry wrote, and the tenant's chain of effect digests up to and with it.
    pub fn finish(mut self) -> (Layer, Digest) {
        let layer = self.overlay_back().map(Overlay::into_layer).unwrap_or_default();
        (layer, self.link.finish())
    }

    /// Makes one call. `due` is what `next-due` is set to before it, whatever becomes of it.
    fn run(
        &mut self,
        context: &Context,
        due: Option<Option<u64>>,
        call: impl FnOnce(&mut Instance) -> Called,
    ) -> Result<Applied, LocalFault> {
        if self.seat.is_none() {
            let seat = self.applier.seat()?;
            self.take_seat(seat);
        }
        let set_due = |overlay: &mut Overlay| {
            if let Some(due) = due {
                overlay.command_mut().set_due(due);
            }
        };
        let (outcome, fuel, memory_bytes, logs) = match &mut self.seat {
            Some(Ok(instance)) => {
                instance.guest_mut().overlay.as_mut().map(set_due);
                let outcome = call(instance)?.unwrap_or_else(Outcome::Failed);
                let logs = std::mem::take(&mut instance.guest_mut().logs);
                (outcome, instance.fuel(), instance.memory_bytes(), logs)
            }
            Some(Err(failure)) => (Outcome::Failed(failure.clone()), 0, 0, Logs::default()),
            None => return Err(lost()),
        };
        let overlay = match &mut self.seat {
            Some(Ok(instance)) => instance.guest_mut().overlay.as_mut(),
            _ => self.spare.as_mut(),
        };
        let overlay = overlay.ok_or_else(lost)?;
        if !outcome.took_effect() {
            overlay.discard();
            set_due(overlay);
        }
        self.link.add(context, &outcome, overlay.command());
        let effects = self.keep_effects.then(|| overlay.command().effects().collect());
        overlay.accept();
        if matches!(outcome, Outcome::Failed(_)) {
            self.spare = self.overlay_back();
            self.seat = None;
        }
        Ok(Applied { outcome, fuel, memory_bytes, effects, logs })
    }

    fn take_seat(&mut self, mut seat: Seat) {
        if let Ok(instance) = &mut seat
            && let Some(overlay) = self.spare.take()
        {
            instance.lend(overlay);
        }
        self.seat = Some(seat);
    }

    fn overlay_back(&mut self) -> Option<Overlay> {
        match &mut self.seat {
            Some(Ok(instance)) => instance.take_back(),
            _ => None,
        }
        .or_else(|| self.spare.take())
    }
}

/// No path leads here: a bulk call alone takes an overlay away from its instance.
fn lost() -> LocalFault {
    LocalFault::Call("an entry's overlay is gone".into())
}

impl std::fmt::Debug for EntryCalls<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryCalls").field("applier", &self.applier).finish_non_exhaustive()
    }
}
