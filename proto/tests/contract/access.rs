//! Who may call what, as `docs/security.md` has it.

use std::fmt::Write as _;

use proto::access::{Access, Role};
use proto::codes::SERVICES;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/security.md");

/// What stands around the list.
const BEGINS: &str = "prints what stands here -->\n";
const ENDS: &str = "<!-- access ends -->";

/// One row a service, with its RPCs by whom they are for.
fn table() -> String {
    let everybody = [
        Access::User(Role::Viewer),
        Access::User(Role::Operator),
        Access::User(Role::Admin),
        Access::Engine,
    ];
    let mut text = String::from("\n| | viewer | operator | admin | engine |\n|---|---|---|---|---|\n");
    for service in SERVICES {
        let columns = everybody.map(|access| {
            let rpcs = service.rpcs.iter().filter(|rpc| rpc.access == access);
            rpcs.map(|rpc| rpc.name).collect::<Vec<_>>().join(", ")
        });
        let name = service.name.trim_start_matches("vdsm_engine.");
        let _ = writeln!(text, "| `{name}` | {} |", columns.join(" | "));
    }
    text.push('\n');
    text
}

#[test]
fn who_may_call_what_is_as_the_document_says() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (_, after) = document.split_once(BEGINS).expect("the list begins");
    let (written, _) = after.split_once(ENDS).expect("the list ends");
    let printed = table();
    assert!(written == printed, "docs/security.md should have:\n{printed}");
}
