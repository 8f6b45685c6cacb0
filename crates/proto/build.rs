//! Makes Rust of `tidemill/v1/*.proto` with a compiler that is a library: nobody has to install `protoc`.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 4] =
    ["tidemill/v1/common.proto", "tidemill/v1/ingest.proto", "tidemill/v1/decide.proto", "tidemill/v1/view.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=tidemill");
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo says where the crate is")?;
    let files = protox::compile(FILES, [folder])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo says where output goes")?);
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        // Bodies are handed on as they lie in the message's buffer.
        .bytes(".")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(files)?;
    Ok(())
}
