//! The `mortise.v1` gRPC interface: generated messages, clients and servers, and the one error detail that every
//! error carries.
//!
//! Generated types stay at the edges: `host/node`, `host/peer` and `host/client` convert them on receipt.

pub mod error;
mod profile;

/// The metadata that says which cluster a node is of, and a call is meant for: 16 hexadecimal digits.
pub const CLUSTER_METADATA: &str = "mortise-cluster";

/// Generated from `proto/mortise/v1/*.proto`, where everything is documented.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("mortise.v1");
}

/// Descriptors of what clients may call, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("mortise");
