//! The comments of the contract say of each RPC what it may answer, and they say what the table in the code says.

use std::collections::{BTreeMap, BTreeSet};

use common::fault::FaultCode;
use prost_types::FileDescriptorProto;
use proto::codes::{ALWAYS, SERVICES, Service};

use super::descriptors::{comment, messages, present, services};

/// How a list of codes begins, at the end of a comment.
const CODES: &str = "Codes: ";

/// The same, of a service's comment.
const OF_EACH: &str = "Codes of each RPC besides its own: those of task.v1.Fault";

/// The same, of [`ALWAYS`] at the message that carries them.
const OF_ALL: &str = "Codes of all RPCs: ";

/// Codes as comments list them: by the gRPC code that carries them, in one order.
fn listed(codes: impl IntoIterator<Item = FaultCode>) -> String {
    let mut groups = BTreeMap::<_, BTreeSet<FaultCode>>::new();
    for code in codes {
        groups.entry(code.kind()).or_default().insert(code);
    }
    let group = |(kind, codes): (common::fault::FaultKind, BTreeSet<FaultCode>)| {
        let names: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
        match names.as_slice() {
            [one] if *one == kind.grpc_code() => kind.grpc_code().to_owned(),
            several => format!("{} ({})", kind.grpc_code(), several.join(", ")),
        }
    };
    let groups: Vec<_> = groups.into_iter().map(group).collect();
    if groups.is_empty() {
        "none of its own.".to_owned()
    } else {
        format!("{}.", groups.join(", "))
    }
}

/// What is wrong with a comment that is to end with these codes.
fn judge(what: &str, comment: &str, begins: &str, expected: &str, wrong: &mut Vec<String>) {
    let words: Vec<&str> = comment.split_whitespace().collect();
    let found = words.join(" ");
    let found = found.split_once(begins).map(|(_, codes)| codes.to_owned());
    if found.as_deref() != Some(expected) {
        wrong.push(format!(
            "{what}\n    should end with: {begins}{expected}\n    says: {found:?}"
        ));
    }
}

fn judge_service(file: &FileDescriptorProto, at: i32, table: &Service, wrong: &mut Vec<String>) {
    let of_service = comment(file, &[6, at]);
    let expected = match table.every {
        [] => ".".to_owned(),
        every => format!(", and {}", listed(every.iter().copied())),
    };
    judge(table.name, &of_service, OF_EACH, &expected, wrong);
    let methods = &file.service[usize::try_from(at).unwrap()].method;
    let declared: Vec<&str> = methods.iter().map(|method| method.name()).collect();
    let known: Vec<&str> = table.rpcs.iter().map(|rpc| rpc.name).collect();
    if declared != known {
        wrong.push(format!(
            "{} has {declared:?}, and the table has {known:?}",
            table.name
        ));
        return;
    }
    for (method, rpc) in (0..).zip(table.rpcs) {
        let what = format!("{}/{}", table.name, rpc.name);
        judge(
            &what,
            &comment(file, &[6, at, 2, method]),
            CODES,
            &listed(rpc.codes()),
            wrong,
        );
    }
}

#[test]
fn comments_say_what_each_rpc_may_answer() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    let set = present();
    for file in &set.file {
        for (at, (name, _)) in (0..).zip(services(file)) {
            match SERVICES.iter().find(|table| table.name == name) {
                Some(table) => judge_service(file, at, table, &mut wrong),
                None => wrong.push(format!("the table has no {name}")),
            }
            seen += 1;
        }
        for (at, message) in (0..).zip(&file.message_type) {
            if file.package() == "vdsm_engine.task.v1" && message.name() == "Fault" {
                let text = comment(file, &[4, at]);
                judge(
                    "task.v1.Fault",
                    &text,
                    OF_ALL,
                    &listed(ALWAYS.iter().copied()),
                    &mut wrong,
                );
            }
        }
    }
    assert_eq!(seen, SERVICES.len());
    assert!(
        set.file
            .iter()
            .flat_map(messages)
            .any(|(name, _)| name == "vdsm_engine.task.v1.Fault")
    );
    assert!(
        wrong.is_empty(),
        "{} comments:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn no_code_stands_twice_for_an_rpc() {
    for service in SERVICES {
        for rpc in service.rpcs {
            let mut seen = BTreeSet::new();
            let all = ALWAYS.iter().chain(service.every).copied().chain(rpc.codes());
            for code in all {
                assert!(seen.insert(code), "{}/{}: {code} twice", service.name, rpc.name);
            }
        }
    }
}
