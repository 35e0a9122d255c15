//! Generates the wire types. The parser is in Rust, so a bare machine with cargo can build.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

const FILES: &[&str] = &[
    "task/v1/task.proto",
    "task/v1/watch.proto",
    "vdsm/v1/host_service.proto",
    "vdsm/v1/storage_service.proto",
    "vdsm/v1/task_service.proto",
    "engine/v1/command.proto",
    "engine/v1/command_service.proto",
    "engine/v1/disk_service.proto",
    "engine/v1/entity.proto",
    "engine/v1/event_service.proto",
    "engine/v1/host_service.proto",
    "engine/v1/job_service.proto",
    "engine/v1/storage_domain_service.proto",
    "engine/v1/task_service.proto",
    "engine/v1/vm_service.proto",
    "store/v1/engine_record.proto",
    "store/v1/host_record.proto",
];

/// What reflection serves: the records of the databases are nobody's business.
const SERVED: &[&str] = &["task/", "vdsm/", "engine/", "google/"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let set = protox::compile(FILES, ["."])?;
    let mut served = set.clone();
    served
        .file
        .retain(|file| SERVED.iter().any(|prefix| file.name().starts_with(prefix)));
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptor.bin"), served.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(set)?;
    Ok(())
}
