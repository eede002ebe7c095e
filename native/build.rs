// SPDX-License-Identifier: Apache-2.0
//! Compiles the protos with protox, so that no protoc has to be installed.

use prost::Message;

/// What can be called as JSON, and what errors are made of.
const SERVICES: [&str; 10] = [
    "taximeter/v1/access_service.proto",
    "taximeter/v1/billing_service.proto",
    "taximeter/v1/event_service.proto",
    "taximeter/v1/metering_service.proto",
    "taximeter/v1/operations_service.proto",
    "taximeter/v1/plan_service.proto",
    "taximeter/v1/rate_card_service.proto",
    "taximeter/v1/tenant_service.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
];

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
    let services = protox::compile(SERVICES, roots)?;
    let out_dir = std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?;
    std::fs::write(
        std::path::Path::new(&out_dir).join("services.bin"),
        services.encode_to_vec(),
    )?;
    // Ordered maps: the same request always makes the same lines, in the same order.
    prost_build::Config::new()
        .btree_map(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
