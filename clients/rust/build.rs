// SPDX-License-Identifier: Apache-2.0
//! Compiles the protos with protox, so that no protoc has to be installed.

use std::fs;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let roots = ["proto", "third_party"];
    let mut files = vec!["google/rpc/error_details.proto".to_owned()];
    for entry in fs::read_dir("proto/taximeter/v1")? {
        files.push(format!("taximeter/v1/{}", entry?.file_name().to_string_lossy()));
    }
    files.sort();
    for root in roots {
        println!("cargo:rerun-if-changed={root}");
    }
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(protox::compile(files, roots)?)?;
    Ok(())
}
