//! Generates the wire types. The parser is in Rust, so a bare machine with cargo can build.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message as _;

const FILES: &[&str] = &[
    "vdsm_engine/encoded/v1/encoded_watch.proto",
    "vdsm_engine/task/v1/task.proto",
    "vdsm_engine/task/v1/watch.proto",
    "vdsm_engine/host/v1/vdsm_host_service.proto",
    "vdsm_engine/host/v1/vdsm_storage_service.proto",
    "vdsm_engine/host/v1/vdsm_task_service.proto",
    "vdsm_engine/engine/v1/command.proto",
    "vdsm_engine/engine/v1/command_service.proto",
    "vdsm_engine/engine/v1/disk_service.proto",
    "vdsm_engine/engine/v1/engine_service.proto",
    "vdsm_engine/engine/v1/entity.proto",
    "vdsm_engine/engine/v1/event_service.proto",
    "vdsm_engine/engine/v1/host_service.proto",
    "vdsm_engine/engine/v1/job_service.proto",
    "vdsm_engine/engine/v1/storage_domain_service.proto",
    "vdsm_engine/engine/v1/task_service.proto",
    "vdsm_engine/engine/v1/vm_service.proto",
    "vdsm_engine/store/v1/clock_record.proto",
    "vdsm_engine/store/v1/engine_record.proto",
    "vdsm_engine/store/v1/host_record.proto",
];

/// What reflection serves: the records of the databases are nobody's business.
const SERVED: &[&str] = &[
    "vdsm_engine/task/",
    "vdsm_engine/host/",
    "vdsm_engine/engine/",
    "google/",
];

/// Packages with services.
const SERVICES: &[&str] = &["host", "engine"];

/// The other ones.
const MESSAGES: &[&str] = &["task", "encoded", "store"];

/// What servers send as `vdsm_engine.encoded.v1.WatchResponse`.
const WATCH_RESPONSES: &[&str] = &[
    ".vdsm_engine.host.v1.WatchTasksResponse",
    ".vdsm_engine.engine.v1.WatchCommandsResponse",
    ".vdsm_engine.engine.v1.WatchTasksResponse",
    ".vdsm_engine.engine.v1.WatchJobsResponse",
    ".vdsm_engine.engine.v1.WatchEventsResponse",
];

/// Bytes that are shared by all who send them.
const SHARED: &[&str] = &[
    ".vdsm_engine.encoded.v1",
    ".vdsm_engine.store.v1.HostHistory",
    ".vdsm_engine.store.v1.EngineHistory",
];

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
    fs::write(out.join("descriptor.bin"), served.encode_to_vec())?;
    // What the tests look at: the records too.
    fs::write(out.join("contract.bin"), set.encode_to_vec())?;
    let mut messages_and_clients = tonic_prost_build::configure().build_server(false);
    for path in SHARED {
        messages_and_clients = messages_and_clients.bytes(path);
    }
    messages_and_clients.compile_fds(set.clone())?;
    let servers_dir = out.join("servers");
    fs::create_dir_all(&servers_dir)?;
    let mut servers = tonic_prost_build::configure()
        .build_client(false)
        .out_dir(servers_dir);
    for package in SERVICES.iter().chain(MESSAGES) {
        servers = servers.extern_path(
            format!(".vdsm_engine.{package}.v1"),
            format!("crate::{package}::v1"),
        );
    }
    for response in WATCH_RESPONSES {
        servers = servers.extern_path(response, "crate::encoded::v1::WatchResponse");
    }
    servers.compile_fds(set)?;
    Ok(())
}
