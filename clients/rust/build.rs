// SPDX-License-Identifier: Apache-2.0
//! Compiles the protos with protox, so that no protoc has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let roots = ["proto", "third_party"];
    let files = [
        "taximeter/v1/access_service.proto",
        "taximeter/v1/error_reason.proto",
        "taximeter/v1/metering_service.proto",
        "taximeter/v1/operations_service.proto",
        "taximeter/v1/rate_card_service.proto",
        "taximeter/v1/tenant_service.proto",
        "google/rpc/error_details.proto",
    ];
    for root in roots {
        println!("cargo:rerun-if-changed={root}");
    }
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(protox::compile(files, roots)?)?;
    Ok(())
}
