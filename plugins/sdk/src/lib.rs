//! Write a Mortise plugin: one struct, one trait.
//!
//! ```text
//!               host ── bytes ──▶ Encoding::decode ──▶ Plugin::apply ──▶ Encoding::encode ── bytes ──▶ host
//!                                                       │       ▲
//!                                             put, delete       get, scan
//!                                                       ▼       │
//!                                                      Transaction
//! ```
//! A plugin says what a tenant's data *means*; the host keeps it: durably, in order, on every replica. The state
//! is an ordered map of byte strings, seen through a [`View`] (reading) or a [`Transaction`] (reading and writing).
//!
//! # A whole plugin
//! A guest book: everyone may sign once, and the last entries can be read.
//!
//! ```
//! use mortise_sdk::{Context, Json, Plugin, Rejection, Transaction, View, export_plugin};
//! use serde::{Deserialize, Serialize};
//!
//! struct GuestBook;
//! export_plugin!(GuestBook);
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Sign {
//!     name: String,
//!     text: String,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Last {
//!     limit: usize,
//! }
//!
//! impl Plugin for GuestBook {
//!     const NAME: &'static str = "guest-book";
//!     const VERSION: &'static str = "0.1.0";
//!     const SUMMARY: &'static str = "Everyone may sign once";
//!     type Command = Sign;
//!     type Reply = u64;
//!     type Request = Last;
//!     type Response = Vec<String>;
//!     type Encoding = Json;
//!
//!     fn apply(tx: &mut Transaction<'_>, context: &Context, sign: Sign) -> Result<u64, Rejection> {
//!         let signed = ["name/", &sign.name].concat();
//!         if tx.get(signed.as_bytes()).is_some() {
//!             return Err(Rejection::conflict("already_signed", "everyone may sign once"));
//!         }
//!         tx.put(signed.as_bytes(), b"");
//!         // Big-endian numbers sort as byte strings, so the entries lie in the order in which they came.
//!         let entry = [b"entry/".as_slice(), &context.sequence.to_be_bytes()].concat();
//!         tx.put(&entry, sign.text.as_bytes());
//!         Ok(context.sequence)
//!     }
//!
//!     fn query(view: &View<'_>, _: &Context, last: Last) -> Result<Vec<String>, Rejection> {
//!         let newest_first = view.prefix("entry/").descending().take(last.limit);
//!         Ok(newest_first.map(|pair| String::from_utf8_lossy(pair.value()).into_owned()).collect())
//!     }
//!
//!     fn examples() -> Vec<(&'static str, Sign)> {
//!         vec![("sign", Sign { name: "ann".into(), text: "It was lovely.".into() })]
//!     }
//! }
//!
//! // The logic runs on the machine that compiles it, too: this is a unit test.
//! let mut state = mortise_sdk::Memory::new();
//! let first = Context { sequence: 1, ..Context::default() };
//! let sign = || Sign { name: "ann".into(), text: "It was lovely.".into() };
//! assert_eq!(state.apply::<GuestBook>(&first, sign()), Ok(1));
//! assert_eq!(state.apply::<GuestBook>(&first, sign()).unwrap_err().code, "already_signed");
//! assert_eq!(state.query::<GuestBook>(&first, Last { limit: 10 }), Ok(vec!["It was lovely.".to_owned()]));
//! ```
//!
//! # From a crate to a component
//! A plugin is a crate of type `cdylib` (for the component) and `rlib` (for its tests). `cargo xtask plugin FOLDER`
//! compiles it for `wasm32-unknown-unknown` and wraps it as a component. Who does that in another way should give it a
//! stack of 64 KiB (`-Clink-arg=-zstack-size=65536`): each log entry is applied by a fresh instance, and its price is
//! mostly that of the memory it touches.
//!
//! `mortise-testkit` loads the compiled component through the real runtime and checks the contract.

#[cfg(any(target_arch = "wasm32", test))]
#[allow(unsafe_code)]
mod allocator;
mod encoding;
pub mod log;
mod plugin;
mod range;
mod rejection;
mod scan;
pub mod snapshot;
mod state;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;
#[cfg(target_arch = "wasm32")]
use guest as backend;

#[cfg(not(target_arch = "wasm32"))]
mod memory;
#[cfg(not(target_arch = "wasm32"))]
use memory as backend;
#[cfg(not(target_arch = "wasm32"))]
pub use memory::Memory;

pub use encoding::{Decode, Encode, Encoding, Json};
pub use plugin::{Context, Plugin};
pub use range::{Direction, KeyRange};
pub use rejection::{Kind, Rejection};
pub use scan::{Pair, Scan};
pub use state::{Transaction, View, read_json};

/// Exports a type that implements [`Plugin`] as this component's plugin. Call it once in a crate, at its top level.
/// It does something for wasm32 only, so the same crate can be tested natively.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            type Exported = $crate::guest::Adapter<$plugin>;
    $crate::guest::bindings::export_component!(Exported with_types_in $crate::guest::bindings);
        };
    };
}
