//! The one trait that an author implements.

use crate::snapshot::{Sink, Source, dump, load};
use crate::{Decode, Encode, Encoding, Rejection, Transaction, View};

/// What a call may know beside its input. In `apply`, `expire`, `restore` and `migrate` it is recorded in the log
/// entry, and so is the same on every replica; in `check` and `query` it is the present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The tenant's own count of commands: 1 for its first. `check` and `query` see the last one applied.
    pub sequence: u64,
    /// Log time in milliseconds since 1970-01-01 UTC. It never goes back.
    pub time_ms: u64,
    /// Who asked, as authenticated by the host; none where the node runs without tokens.
    pub principal: Option<String>,
}

/// A storage behaviour. Functions take no `self`: a plugin keeps nothing between calls but the tenant's state, and
/// each log entry is applied by a fresh instance.
///
/// Be deterministic: every replica applies the same commands and must come to the same state. There is no clock
/// and no randomness to go wrong with; of the standard library, only the order of a `HashMap` is left to avoid.
pub trait Plugin {
    /// The plugin's name: lower-case letters, digits, `-` and `_`; 1 to 64 bytes.
    const NAME: &'static str;
    /// The plugin's version, semantic. `env!("CARGO_PKG_VERSION")` is a good one.
    const VERSION: &'static str;
    /// The version of the layout of its state, at least 1. Plugins of equal name and schema can replace each other.
    const SCHEMA: u32 = 1;
    /// One line for people.
    const SUMMARY: &'static str;

    /// A write. Its size is that of one command; wrap several in an enum.
    type Command;
    /// What a write answers.
    type Reply;
    /// A read.
    type Request;
    /// What a read answers.
    type Response;
    /// How all four become bytes. [`Json`](crate::Json) where nothing speaks against it.
    type Encoding: Encoding
        + Decode<Self::Command>
        + Encode<Self::Command>
        + Encode<Self::Reply>
        + Decode<Self::Request>
        + Encode<Self::Response>;

    /// Applies one command, in log order.
    ///
    /// # Errors
    /// The command is refused: its writes vanish, and the rejection is its outcome. A panic does the same, as a trap.
    fn apply(
        tx: &mut Transaction<'_>,
        context: &Context,
        command: Self::Command,
    ) -> Result<Self::Reply, Rejection>;

    /// Answers a read.
    ///
    /// # Errors
    /// The request is refused.
    fn query(view: &View<'_>, context: &Context, request: Self::Request)
    -> Result<Self::Response, Rejection>;

    /// Admission: looks at a command before it is logged, so that a hopeless one costs no log space. What passes
    /// here may still be refused by `apply`, which must check everything again. By default every command passes
    /// that can be decoded.
    ///
    /// Refuse only what no earlier command could make right, as a negative amount: `view` is the *applied* state, and
    /// a client that sends `open` and `transfer` without waiting has its `transfer` checked before `open` is applied.
    ///
    /// # Errors
    /// The command is refused, and nothing is logged.
    fn check(_view: &View<'_>, _context: &Context, _command: &Self::Command) -> Result<(), Rejection> {
        Ok(())
    }

    /// Called when the time given to [`Transaction::next_due`] has come. Do a bounded amount of work, then set
    /// `next_due` again if more is left.
    fn expire(_tx: &mut Transaction<'_>, _context: &Context) {}

    /// Writes the whole state. By default every pair, as [`snapshot`](crate::snapshot) describes.
    ///
    /// # Errors
    /// There is no snapshot, and why. The host then dumps the pairs itself.
    fn snapshot(view: &View<'_>, sink: &mut Sink<'_>) -> Result<(), String> {
        dump(view, sink)
    }

    /// Makes, in an empty state, exactly the state that `snapshot` wrote.
    ///
    /// # Errors
    /// It cannot, and why; the tenant stays as it was.
    fn restore(tx: &mut Transaction<'_>, _context: &Context, source: &mut Source<'_>) -> Result<(), String> {
        load(tx, source)
    }

    /// Brings the state from schema `from` to [`SCHEMA`](Self::SCHEMA); 0: the tenant was just created. By default a
    /// new tenant and one of the same schema stay as they are.
    ///
    /// # Errors
    /// It does not know how, and why; the tenant stays as it was.
    fn migrate(_tx: &mut Transaction<'_>, _context: &Context, from: u32) -> Result<(), String> {
        match from == 0 || from == Self::SCHEMA {
            true => Ok(()),
            false => Err(format!("{} does not know how to migrate from schema {from}", Self::NAME)),
        }
    }

    /// Named commands, in an order in which they can be applied to a new tenant: people read them in
    /// `mortise plugin inspect`, and conformance checks run them.
    fn examples() -> Vec<(&'static str, Self::Command)> {
        Vec::new()
    }
}
