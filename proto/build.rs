//! Compiles the .proto files with protox, so that no protoc is needed, and keeps their descriptors for reflection.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["mortise/v1/common.proto", "mortise/v1/data.proto", "mortise/v1/admin.proto"];
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    tonic_prost_build::configure()
        .bytes(".")
        .file_descriptor_set_path(out.join("mortise.bin"))
        .compile_fds(descriptors.clone())?;
    std::fs::write(out.join("mortise.bin"), prost_encode(&descriptors))?;
    Ok(())
}

fn prost_encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}
