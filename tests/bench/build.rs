//! Generates the client of what is measured beside ours.

use std::error::Error;

const FILE: &str = "etcd.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/{FILE}");
    let set = protox::compile([FILE], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(set)?;
    Ok(())
}
