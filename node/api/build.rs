//! Generates messages and services from every `.proto` under `proto/`, without a `protoc`.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut protos = Vec::new();
    collect(root, &mut protos)?;
    // The order of a directory is not the same on every machine; generated code should be.
    protos.sort();
    let descriptors = protox::compile(&protos, [root])?;
    // Maps are not used, but would have to be sorted: replicas are compared byte by byte.
    tonic_prost_build::configure()
        .btree_map(".")
        // A megabyte at a time: passed on as it was received.
        .bytes(".percolate.replication.v1.SnapshotChunk.content")
        .include_file("packages.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

fn collect(directory: &Path, protos: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, protos)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            protos.push(path);
        }
    }
    Ok(())
}
