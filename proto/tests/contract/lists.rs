//! What the descriptors promise of lists: whoever adds one gives it pages.

// A test fails by a panic.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Each list of each service by its name, with its request and its answer.
fn lists() -> Vec<(String, DescriptorProto, DescriptorProto)> {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let mut messages = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            messages.insert(format!(".{}.{}", file.package(), message.name()), message.clone());
        }
    }
    let mut lists = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in service
                .method
                .iter()
                .filter(|method| method.name().starts_with("List"))
            {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                let message = |name: &str| messages.get(name).cloned().unwrap();
                lists.push((name, message(method.input_type()), message(method.output_type())));
            }
        }
    }
    lists
}

fn has(message: &DescriptorProto, field: &str) -> bool {
    message
        .field
        .iter()
        .any(|f| f.name() == field && f.label() != Label::Repeated)
}

#[test]
fn every_list_has_pages() {
    let lists = lists();
    assert!(lists.len() >= 12, "{} lists", lists.len());
    for (name, request, answer) in lists {
        for field in ["page_size", "page_token"] {
            assert!(has(&request, field), "{name}: its request has no {field}");
        }
        assert!(
            has(&answer, "next_page_token"),
            "{name}: its answer has no next_page_token"
        );
        let repeated = answer.field.iter().filter(|f| f.label() == Label::Repeated);
        assert_eq!(repeated.count(), 1, "{name}: a page is of one kind of item");
    }
}
