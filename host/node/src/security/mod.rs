//! Who is asking, and whether they may: bearer tokens and TLS.
//!
//! Without any token configured (possible on loopback, or with `node.insecure`) every caller may do everything and
//! has no name. With tokens, every call of Data and Admin, and `/metrics`, needs one. Health and reflection are
//! open to everybody: they tell whether the node serves and what its published interface is.

mod access;
mod tls;
mod token;

pub use access::{AccessError, Action, Caller, Tokens};
pub use tls::{TlsError, acceptor, peer_tls};
pub use token::{Token, TokenError};
