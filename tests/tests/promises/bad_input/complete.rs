//! The tables have a row for every RPC whose request has fields.

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tests::failure::{Failure, TestResult, ensure};

/// The tables of the engine's RPCs.
const OF_ENGINE: [&str; 6] = [
    include_str!("commands.rs"),
    include_str!("disks.rs"),
    include_str!("hosts.rs"),
    include_str!("lists.rs"),
    include_str!("vms.rs"),
    include_str!("watches.rs"),
];

/// The tables of the host's RPCs.
const OF_HOST: [&str; 4] = [
    include_str!("host_storage.rs"),
    include_str!("host_tasks.rs"),
    include_str!("ownership.rs"),
    include_str!("watches.rs"),
];

#[test]
fn every_rpc_has_a_row() -> TestResult<()> {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).map_err(Failure::new)?;
    let mut rpcs = 0;
    let mut missing = Vec::new();
    for file in &set.file {
        let tables: &[&str] = match file.package() {
            "vdsm_engine.engine.v1" => &OF_ENGINE,
            "vdsm_engine.host.v1" => &OF_HOST,
            _ => continue,
        };
        for (service, method) in file
            .service
            .iter()
            .flat_map(|s| s.method.iter().map(move |m| (s, m)))
        {
            rpcs += 1;
            let call = format!(".{}", snake_case(method.name()));
            let has_a_row = tables
                .iter()
                .flat_map(|table| table.lines())
                .any(|line| line.contains("refuse") && line.contains(&call));
            if !has_a_row && takes_something(&set, method.input_type()) {
                missing.push(format!("{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    ensure(rpcs > 0 && missing.is_empty(), || {
        format!("no row for {missing:?}")
    })
}

/// Whether a request has fields.
fn takes_something(set: &FileDescriptorSet, full_name: &str) -> bool {
    set.file.iter().any(|file| {
        let prefix = format!(".{}.", file.package());
        file.message_type
            .iter()
            .any(|message| full_name == format!("{prefix}{}", message.name()) && !message.field.is_empty())
    })
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
