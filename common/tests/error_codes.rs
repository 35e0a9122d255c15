//! `docs/error-codes.md` has a section for each code, and none for a code that does not exist.

use std::collections::BTreeSet;

use common::FaultCode;

#[test]
fn each_code_has_its_section_with_its_facts() {
    let text = include_str!("../../docs/error-codes.md");
    let sections: Vec<&str> = text.split("\n## ").skip(1).collect();
    let documented: BTreeSet<&str> = sections.iter().filter_map(|s| s.lines().next()).collect();
    let known: BTreeSet<&str> = FaultCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(documented, known);
    for code in FaultCode::ALL {
        let section = sections
            .iter()
            .find(|s| s.lines().next() == Some(code.as_str()))
            .unwrap();
        let number = code.vdsm_code().map_or("none".to_owned(), |n| n.to_string());
        let repeat = if code.repeat_may_help() { "yes" } else { "no" };
        let grpc = code.kind().grpc_code();
        assert!(
            section.contains(&format!("gRPC: `{grpc}` · VDSM: {number} ·")),
            "{code}"
        );
        assert!(section.contains(&format!("repeat may help: {repeat}")), "{code}");
        assert!(
            section.contains("What to do: ") && !section.contains("What to do: \n"),
            "{code}"
        );
    }
}
