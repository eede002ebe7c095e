// SPDX-License-Identifier: Apache-2.0
//! Compiles the protos with protox, so that no protoc has to be installed; and the allocator of the embedded store.

use std::path::{Path, PathBuf};

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
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    compile_protos(&out_dir)?;
    build_store_allocator(&out_dir)
}

fn compile_protos(out_dir: &Path) -> BuildResult {
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
    std::fs::write(out_dir.join("services.bin"), services.encode_to_vec())?;
    // Ordered maps: the same request always makes the same lines, in the same order.
    prost_build::Config::new()
        .btree_map(["."])
        .compile_fds(descriptors)?;
    Ok(())
}

/// The allocator of this crate once more, as a shared library that stands in for the C library's: that one, which the
/// store's wheel is linked with, takes a quarter of the store's time.
fn build_store_allocator(out_dir: &Path) -> BuildResult {
    let include = std::env::var_os("DEP_MIMALLOC_INCLUDE_DIR").ok_or("mimalloc does not say where it is")?;
    let source = Path::new(&include).with_file_name("src");
    let mut build = cc::Build::new();
    build
        .include(&include)
        .include(&source)
        .opt_level(3)
        .pic(true)
        .cargo_metadata(false)
        .define("MI_MALLOC_OVERRIDE", None)
        .define("MI_SHARED_LIB", None)
        .define("MI_SHARED_LIB_EXPORT", None)
        .define("MI_BUILD_RELEASE", None)
        .define("NDEBUG", None)
        .flag("-fno-builtin-malloc")
        .flag("-fvisibility=hidden")
        .flag("-ftls-model=initial-exec");
    let status = build
        .get_compiler()
        .to_command()
        .args(["-shared", "-pthread"])
        .arg(source.join("static.c"))
        .arg("-o")
        .arg(out_dir.join("store_allocator.so"))
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the C compiler ended with {status}").into())
    }
}
