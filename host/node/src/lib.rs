//! One storage node: driver, apply, gRPC services, security, metrics, configuration
