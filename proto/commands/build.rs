//! Compiles the .proto files with protox, so that no protoc is needed.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["mortise/kv/v1/kv.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("commands.bin"), descriptors.encode_to_vec())?;
    // Puts are most of what is written: a plugin takes their fields out of the command without copying them.
    prost_build::Config::new().bytes([".mortise.kv.v1.Put"]).compile_fds(descriptors)?;
    Ok(())
}
