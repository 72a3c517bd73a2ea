//! Compiles the schema with protox, a protobuf compiler in Rust, so that no `protoc` has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let schema = "isthmus/v1/registry.proto";
    println!("cargo:rerun-if-changed={schema}");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_file(schema)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("isthmus.v1.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
