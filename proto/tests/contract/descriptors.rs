//! The descriptors of the whole contract, and walks through them.

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
    ServiceDescriptorProto,
};

/// The first part of each package of ours.
const ROOT: &str = "vdsm_engine.";

/// All files of ours as they are now, those that are not served too, with their comments.
pub(crate) fn present() -> FileDescriptorSet {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/contract.bin"));
    ours(FileDescriptorSet::decode(bytes.as_slice()).unwrap())
}

fn ours(mut set: FileDescriptorSet) -> FileDescriptorSet {
    set.file.retain(|file| file.package().starts_with(ROOT));
    set
}

/// Each message with its full name, those within messages too. Entries of maps are none.
pub(crate) fn messages(file: &FileDescriptorProto) -> Vec<(String, &DescriptorProto)> {
    let mut found = Vec::new();
    let mut open: Vec<_> = file
        .message_type
        .iter()
        .map(|message| (file.package().to_owned(), message))
        .collect();
    while let Some((scope, message)) = open.pop() {
        let name = format!("{scope}.{}", message.name());
        let nested = message.nested_type.iter().map(|nested| (name.clone(), nested));
        open.extend(nested);
        found.push((name, message));
    }
    found
}

/// Each enum with its full name, those within messages too.
pub(crate) fn enums(file: &FileDescriptorProto) -> Vec<(String, &EnumDescriptorProto)> {
    let named = |scope: &str, one: &EnumDescriptorProto| format!("{scope}.{}", one.name());
    let mut found: Vec<_> = file
        .enum_type
        .iter()
        .map(|one| (named(file.package(), one), one))
        .collect();
    for (scope, message) in messages(file) {
        found.extend(message.enum_type.iter().map(|one| (named(&scope, one), one)));
    }
    found
}

/// Each service with its full name.
pub(crate) fn services(
    file: &FileDescriptorProto,
) -> impl Iterator<Item = (String, &ServiceDescriptorProto)> {
    file.service
        .iter()
        .map(|service| (format!("{}.{}", file.package(), service.name()), service))
}

/// Each RPC with its full name, as in a path: `package.Service/Method`.
pub(crate) fn methods(file: &FileDescriptorProto) -> impl Iterator<Item = (String, &MethodDescriptorProto)> {
    services(file).flat_map(|(name, service)| {
        service
            .method
            .iter()
            .map(move |method| (format!("{name}/{}", method.name()), method))
    })
}

/// The comment before what lies at this path in its file, as `descriptor.proto` numbers it; empty where there is none.
pub(crate) fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let info = file.source_code_info.as_ref().unwrap();
    let here = info.location.iter().find(|location| location.path == path);
    let text = here.map(|location| location.leading_comments().to_owned());
    text.unwrap_or_default().trim().to_owned()
}
