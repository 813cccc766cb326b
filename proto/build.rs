//! Compiles the .proto files with protox, so that no protoc is needed, and keeps the descriptors of those that are for
//! clients, for reflection.

use std::path::PathBuf;

const FOR_CLIENTS: [&str; 4] = [
    "mortise/v1/common.proto",
    "mortise/v1/data.proto",
    "mortise/v1/admin.proto",
    "mortise/v1/cluster.proto",
];
const FOR_PEERS: &str = "mortise/v1/peer.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let all = protox::compile(FOR_CLIENTS.iter().chain([&FOR_PEERS]), ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(all)?;
    let reflected = protox::compile(FOR_CLIENTS, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("mortise.bin"), prost_encode(&reflected))?;
    Ok(())
}

fn prost_encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}
