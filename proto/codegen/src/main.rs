//! `cargo run -p isthmus-codegen` writes the Rust code of the protobuf schemas, which is committed.
//!
//! It is not a build script, so that a first build of Isthmus waits neither for `protoc` nor for a protobuf compiler
//! and its forty crates. The test here fails when the committed code is not what the schemas say.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A schema, and the folder of its generated code.
struct Schema {
    /// Import root, relative to the workspace.
    include: &'static str,
    /// Path below the import root.
    file: &'static str,
    /// Where the code goes, relative to the workspace.
    out: &'static str,
    /// Whether the descriptors are kept beside the code, for reflection.
    descriptors: Option<&'static str>,
}

const SCHEMAS: &[Schema] = &[
    Schema {
        include: "proto",
        file: "isthmus/v1/registry.proto",
        out: "proto/src/generated",
        descriptors: Some("isthmus.v1.bin"),
    },
    Schema {
        include: "examples/schema-update/proto",
        file: "schema_update.proto",
        out: "examples/schema-update/src/generated",
        descriptors: None,
    },
    Schema {
        include: "tests/upstream/proto",
        file: "echo.proto",
        out: "tests/upstream/src/generated",
        descriptors: None,
    },
];

fn main() -> Result<()> {
    let root = workspace();
    for schema in SCHEMAS {
        let out = root.join(schema.out);
        generate(schema, &root, &out)?;
        println!("{} -> {}", schema.file, schema.out);
    }
    Ok(())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn generate(schema: &Schema, root: &Path, out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut compiler = protox::Compiler::new([root.join(schema.include)])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_file(schema.file)?;
    if let Some(name) = schema.descriptors {
        let path = out.join(name);
        fs::write(&path, compiler.encode_file_descriptor_set())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut config = tonic_prost_build::Config::new();
    // Messages know their names, by which their descriptors are found.
    config.enable_type_names();
    tonic_prost_build::configure()
        .out_dir(out)
        .compile_fds_with_config(compiler.file_descriptor_set(), config)
        .with_context(|| format!("cannot write the code of {}", schema.file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn committed_code_is_current() {
        let root = workspace();
        for schema in SCHEMAS {
            let fresh = tempfile::tempdir().unwrap();
            generate(schema, &root, fresh.path()).unwrap();
            for entry in fs::read_dir(fresh.path()).unwrap() {
                let name = entry.unwrap().file_name();
                let want = fs::read(fresh.path().join(&name)).unwrap();
                let have = fs::read(root.join(schema.out).join(&name)).unwrap_or_default();
                assert!(
                    have == want,
                    "{}/{} is not what {} says; run: cargo run -p isthmus-codegen",
                    schema.out,
                    name.display(),
                    schema.file,
                );
            }
        }
    }
}
