//! A contract as the facts that others rely on: peers of another build, clients with generated code, records on disk.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};

use super::descriptors::{enums, messages, methods, services};

/// What a fact is about: a file, a package's message, one of its fields by number, …
type Subject = String;

/// Facts of each subject: what is said, and what is so.
pub(crate) type Facts = BTreeMap<Subject, BTreeMap<&'static str, String>>;

/// All facts of a set of files.
pub(crate) fn facts(set: &FileDescriptorSet) -> Facts {
    let mut facts = Facts::new();
    for file in &set.file {
        of_file(&mut facts, file);
        for (name, message) in messages(file) {
            add(
                &mut facts,
                format!("message {name}"),
                [("file", file.name().to_owned())],
            );
            of_message(&mut facts, &name, message);
        }
        for (name, one) in enums(file) {
            add(
                &mut facts,
                format!("enum {name}"),
                [("file", file.name().to_owned())],
            );
            of_enum(&mut facts, &name, one);
        }
        for (name, _) in services(file) {
            add(
                &mut facts,
                format!("service {name}"),
                [("file", file.name().to_owned())],
            );
        }
        for (name, method) in methods(file) {
            let facts_of_method = [
                ("request", method.input_type().to_owned()),
                ("response", method.output_type().to_owned()),
                ("client streaming", method.client_streaming().to_string()),
                ("server streaming", method.server_streaming().to_string()),
            ];
            add(&mut facts, format!("rpc {name}"), facts_of_method);
        }
    }
    facts
}

/// What must not change from `old` to `new`, and did.
pub(crate) fn breaks(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let (old, new) = (facts(old), facts(new));
    let mut broken = Vec::new();
    for (subject, was) in &old {
        match new.get(subject) {
            Some(is) => broken.extend(was.iter().filter(|(what, was)| is.get(*what) != Some(was)).map(
                |(what, was)| {
                    let is = is.get(what).map_or("gone", String::as_str);
                    format!("{subject}: {what} was {was:?} and is {is:?}")
                },
            )),
            None if is_retired(&new, subject, was) => {}
            None => broken.push(format!("{subject} is gone{}", remedy(subject, was))),
        }
    }
    broken
}

fn remedy(subject: &str, was: &BTreeMap<&str, String>) -> String {
    match was.get("name") {
        Some(name) if numbered(subject).is_some() => format!(": reserve its number and its name, {name:?}"),
        _ => String::new(),
    }
}

/// Whether a field or a value that is gone left its number and its name reserved.
fn is_retired(new: &Facts, subject: &str, was: &BTreeMap<&str, String>) -> bool {
    let Some((scope, number)) = numbered(subject) else {
        return false;
    };
    let reserved = |what: &str| new.contains_key(&format!("reserved {what} of {scope}"));
    was.get("name")
        .is_some_and(|name| reserved(number) && reserved(name))
}

/// The message and the number of a field, or the enum and the number of a value.
fn numbered(subject: &str) -> Option<(&str, &str)> {
    let rest = subject
        .strip_prefix("field ")
        .or_else(|| subject.strip_prefix("value "))?;
    let (number, scope) = rest.split_once(" of ")?;
    Some((scope, number))
}

fn add(facts: &mut Facts, subject: Subject, more: impl IntoIterator<Item = (&'static str, String)>) {
    facts.entry(subject).or_default().extend(more);
}

fn of_file(facts: &mut Facts, file: &FileDescriptorProto) {
    let options = file.options.clone().unwrap_or_default();
    let of_file = [
        ("package", file.package().to_owned()),
        ("syntax", file.syntax().to_owned()),
        ("csharp_namespace", options.csharp_namespace().to_owned()),
        ("go_package", options.go_package().to_owned()),
        ("java_package", options.java_package().to_owned()),
        ("java_outer_classname", options.java_outer_classname().to_owned()),
        ("java_multiple_files", options.java_multiple_files().to_string()),
    ];
    add(facts, format!("file {}", file.name()), of_file);
}

fn of_message(facts: &mut Facts, name: &str, message: &DescriptorProto) {
    for field in &message.field {
        add(
            facts,
            format!("field {} of {name}", field.number()),
            of_field(message, field),
        );
    }
    let ranges = message
        .reserved_range
        .iter()
        .map(|range| range.start()..range.end());
    reserve(facts, name, ranges, &message.reserved_name);
}

fn of_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> [(&'static str, String); 7] {
    let oneof = field
        .oneof_index
        .map(|at| message.oneof_decl[usize::try_from(at).unwrap()].name());
    let kind = match field.r#type() {
        Type::Message | Type::Enum | Type::Group => field.type_name().to_owned(),
        scalar => scalar.as_str_name().to_owned(),
    };
    // Of a repeated number only: packed is what proto3 does where nothing is said.
    let packed =
        field.label() == Label::Repeated && field.options.as_ref().is_none_or(|o| o.packed.unwrap_or(true));
    [
        ("name", field.name().to_owned()),
        ("JSON name", field.json_name().to_owned()),
        ("type", kind),
        ("label", field.label().as_str_name().to_owned()),
        ("oneof", oneof.unwrap_or_default().to_owned()),
        ("presence", field.proto3_optional().to_string()),
        ("packed", packed.to_string()),
    ]
}

fn of_enum(facts: &mut Facts, name: &str, one: &EnumDescriptorProto) {
    for value in &one.value {
        add(
            facts,
            format!("value {} of {name}", value.number()),
            [("name", value.name().to_owned())],
        );
    }
    // Ranges of enums include their end.
    let ranges = one
        .reserved_range
        .iter()
        .map(|range| range.start()..range.end() + 1);
    reserve(facts, name, ranges, &one.reserved_name);
}

fn reserve(
    facts: &mut Facts,
    scope: &str,
    ranges: impl Iterator<Item = std::ops::Range<i32>>,
    names: &[String],
) {
    let numbers: BTreeSet<String> = ranges.flatten().map(|number| number.to_string()).collect();
    for what in numbers.iter().chain(names) {
        add(facts, format!("reserved {what} of {scope}"), []);
    }
}
