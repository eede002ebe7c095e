// SPDX-License-Identifier: Apache-2.0
//! Compiles the protos with protox.

type BuildResult = Result<(), Box<dyn std::error::Error>>;

fn main() -> BuildResult {
    let roots = ["../../proto", "../../third_party/proto"];
    for root in roots {
        println!("cargo:rerun-if-changed={root}");
    }
    let descriptors = protox::compile(["taximeter/v1/metering_service.proto"], roots)?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
