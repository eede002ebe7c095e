// SPDX-License-Identifier: Apache-2.0
//! Compiles the protos with protox, so that no protoc has to be installed.

type BuildResult = Result<(), Box<dyn std::error::Error>>;

fn main() -> BuildResult {
    let roots = ["../proto", "../third_party/proto"];
    let files = [
        "taximeter/v1/metering_service.proto",
        "taximeter/v1/error_reason.proto",
        "taximeter/v1/tenant_service.proto",
        "taximeter/ledger/v1/ledger_entry.proto",
        "google/rpc/status.proto",
        "google/rpc/error_details.proto",
        "envoy/service/ratelimit/v3/rls.proto",
    ];
    for root in roots {
        println!("cargo:rerun-if-changed={root}");
    }
    let descriptors = protox::compile(files, roots)?;
    // Ordered maps: the same request always makes the same lines, in the same order.
    prost_build::Config::new()
        .btree_map(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
