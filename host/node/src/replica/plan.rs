//! The plan of a commands entry: what runs, for whom, and what is answered without running.

use std::collections::HashMap;

use mortise_core::entry::Command;
use mortise_core::ids::{SessionId, TenantId};
use mortise_core::outcome::Outcome;
use mortise_core::session::Standing;

use super::tables::{Tables, Tenant};

/// What became of a command.
#[derive(Clone, Debug)]
pub(crate) enum CommandResult {
    Outcome(Outcome),
    NoSuchTenant,
    SessionExpired,
    Answered,
}

/// Which commands of an entry run, for which tenant. Sessions are consulted as they stand before the entry; a write
/// that the entry holds twice runs once.
pub(crate) struct Plan {
    pub(crate) shares: Vec<Share>,
    pub(crate) results: Vec<Option<CommandResult>>,
    pub(crate) executed: Vec<bool>,
    /// A duplicate, and the command it repeats.
    pub(crate) duplicates: Vec<(usize, usize)>,
}

pub(crate) struct Share {
    pub(crate) id: TenantId,
    pub(crate) tenant: Tenant,
    pub(crate) commands: Vec<usize>,
}

impl Plan {
    pub(crate) fn make(tables: &Tables, commands: &[Command]) -> Self {
        let mut plan = Self {
            shares: Vec::new(),
            results: vec![None; commands.len()],
            executed: vec![false; commands.len()],
            duplicates: Vec::new(),
        };
        let mut seen = HashMap::with_capacity(commands.len());
        for (at, command) in commands.iter().enumerate() {
            let Some(tenant) = tables.tenants.get(&command.tenant) else {
                plan.results[at] = Some(CommandResult::NoSuchTenant);
                continue;
            };
            if command.session != SessionId::NONE {
                let key = (command.tenant, command.session);
                let standing = tables.sessions.check(key, command.sequence);
                if let Some(result) = CommandResult::of(standing) {
                    plan.results[at] = Some(result);
                    continue;
                }
                if let Some(original) = seen.insert((key, command.sequence), at) {
                    seen.insert((key, command.sequence), original);
                    plan.duplicates.push((at, original));
                    continue;
                }
            }
            plan.executed[at] = true;
            match plan.shares.iter_mut().find(|share| share.id == command.tenant) {
                Some(share) => share.commands.push(at),
                None => {
                    let (id, tenant) = (command.tenant, tenant.clone());
                    plan.shares.push(Share { id, tenant, commands: vec![at] });
                }
            }
        }
        plan
    }
}

impl CommandResult {
    /// The result of a write that is not to be executed.
    pub(crate) fn of(standing: Standing) -> Option<Self> {
        match standing {
            Standing::New => None,
            Standing::Recorded(outcome) => Some(Self::Outcome(outcome)),
            Standing::Answered => Some(Self::Answered),
            Standing::Expired => Some(Self::SessionExpired),
        }
    }
}
