//! The mortise.v1 gRPC interface
