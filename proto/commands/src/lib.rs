//! The messages that shipped plugins understand: the plugins and the client's typed wrappers are made of them.
//!
//! Small enough for guests: prost, serde and nothing else. A client in another language compiles the .proto files in
//! `proto/` itself, or writes JSON.

/// What the `kv` plugin understands: `proto/mortise/kv/v1/kv.proto` says what each message means.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod kv {
    include!(concat!(env!("OUT_DIR"), "/mortise.kv.v1.rs"));
}

pub mod kv_record;
pub mod ledger;

/// The descriptors of all these messages, an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/commands.bin"));
