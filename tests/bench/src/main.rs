//! The program `bench`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// The services' own, so that no ratio is one of allocators.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    bench::measure_all().await
}
