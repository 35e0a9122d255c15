//! No change breaks a peer of the last release, its clients, or a record that it wrote.

use std::path::Path;

use prost::Message as _;
use prost_types::descriptor_proto::ReservedRange;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, FileOptions, MethodDescriptorProto, OneofDescriptorProto,
    ServiceDescriptorProto,
};

use super::descriptors::present;
use super::facts::{breaks, facts};

/// The contract as the last release has it. CONTRIBUTING.md says when it is renewed, and how.
const RELEASED: &str = "released.binpb";

fn released() -> FileDescriptorSet {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(RELEASED);
    FileDescriptorSet::decode(std::fs::read(path).unwrap().as_slice()).unwrap()
}

#[test]
fn no_peer_no_client_and_no_record_of_the_last_release_is_broken() {
    let released = released();
    assert!(facts(&released).len() > 500, "{} facts", facts(&released).len());
    let broken = breaks(&released, &present());
    assert!(
        broken.is_empty(),
        "what the last release relies on is no longer so:\n  {}",
        broken.join("\n  ")
    );
}

/// `make release-contract` runs it.
#[test]
#[ignore = "renews what a release promises"]
fn renew_the_released_contract() {
    let mut set = present();
    for file in &mut set.file {
        file.source_code_info = None;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(RELEASED);
    std::fs::write(path, set.encode_to_vec()).unwrap();
}

fn field(number: i32, name: &str, kind: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        r#type: Some(kind.into()),
        label: Some(Label::Optional.into()),
        json_name: Some(name.to_owned()),
        ..Default::default()
    }
}

fn message(name: &str, field: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto {
        name: Some(name.to_owned()),
        field,
        ..Default::default()
    }
}

fn value(number: i32, name: &str) -> EnumValueDescriptorProto {
    EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        ..Default::default()
    }
}

fn range(number: i32) -> ReservedRange {
    ReservedRange {
        start: Some(number),
        end: Some(number + 1),
    }
}

/// A made-up contract with something of everything.
fn made_up() -> FileDescriptorSet {
    let mut variant = field(3, "by_name", Type::String);
    variant.oneof_index = Some(0);
    let mut sizes = field(4, "sizes", Type::Int64);
    sizes.label = Some(Label::Repeated.into());
    let mut pear = message(
        "Pear",
        vec![
            field(1, "pear_id", Type::String),
            field(2, "weight", Type::Int64),
            variant,
            sizes,
        ],
    );
    pear.oneof_decl = vec![OneofDescriptorProto {
        name: Some("which".to_owned()),
        ..Default::default()
    }];
    pear.reserved_name = vec!["stalk".to_owned()];
    pear.reserved_range = vec![range(9)];
    let ripeness = EnumDescriptorProto {
        name: Some("Ripeness".to_owned()),
        value: vec![value(0, "RIPENESS_UNSPECIFIED"), value(1, "RIPENESS_GREEN")],
        ..Default::default()
    };
    let service = ServiceDescriptorProto {
        name: Some("PearService".to_owned()),
        method: vec![MethodDescriptorProto {
            name: Some("GetPear".to_owned()),
            input_type: Some(".vdsm_engine.fruit.v1.GetPearRequest".to_owned()),
            output_type: Some(".vdsm_engine.fruit.v1.Pear".to_owned()),
            ..Default::default()
        }],
        ..Default::default()
    };
    FileDescriptorSet {
        file: vec![FileDescriptorProto {
            name: Some("vdsm_engine/fruit/v1/pear.proto".to_owned()),
            package: Some("vdsm_engine.fruit.v1".to_owned()),
            syntax: Some("proto3".to_owned()),
            message_type: vec![pear, message("GetPearRequest", vec![])],
            enum_type: vec![ripeness],
            service: vec![service],
            options: Some(FileOptions {
                go_package: Some("vdsm_engine/fruit/v1;fruitv1".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        }],
    }
}

/// What is told of a change to the made-up contract.
fn told(change: impl FnOnce(&mut FileDescriptorProto)) -> Vec<String> {
    let (old, mut new) = (made_up(), made_up());
    change(&mut new.file[0]);
    breaks(&old, &new)
}

/// A change, by what it is told as.
type Provocation = (&'static str, fn(&mut FileDescriptorProto));

const BREAKING: &[Provocation] = &[
    (
        "field 2 of vdsm_engine.fruit.v1.Pear is gone: reserve its number and its name",
        |file| {
            file.message_type[0].field.remove(1);
        },
    ),
    (
        "field 2 of vdsm_engine.fruit.v1.Pear is gone: reserve its number and its name",
        |file| {
            file.message_type[0].field[1].number = Some(7);
        },
    ),
    (
        "field 2 of vdsm_engine.fruit.v1.Pear is gone: reserve its number and its name",
        |file| {
            // The number alone: the name could come back as another field, and mean something else in JSON.
            let pear = &mut file.message_type[0];
            pear.field.remove(1);
            pear.reserved_range.push(range(2));
        },
    ),
    ("field 2 of vdsm_engine.fruit.v1.Pear: name was", |file| {
        file.message_type[0].field[1].name = Some("mass".to_owned());
    }),
    ("field 2 of vdsm_engine.fruit.v1.Pear: JSON name was", |file| {
        file.message_type[0].field[1].json_name = Some("mass".to_owned());
    }),
    ("field 2 of vdsm_engine.fruit.v1.Pear: type was", |file| {
        file.message_type[0].field[1].r#type = Some(Type::Uint64.into());
    }),
    ("field 2 of vdsm_engine.fruit.v1.Pear: label was", |file| {
        file.message_type[0].field[1].label = Some(Label::Repeated.into());
    }),
    ("field 2 of vdsm_engine.fruit.v1.Pear: presence was", |file| {
        file.message_type[0].field[1].proto3_optional = Some(true);
    }),
    ("field 2 of vdsm_engine.fruit.v1.Pear: oneof was", |file| {
        file.message_type[0].field[1].oneof_index = Some(0);
    }),
    ("field 3 of vdsm_engine.fruit.v1.Pear: oneof was", |file| {
        file.message_type[0].field[2].oneof_index = None;
    }),
    ("field 4 of vdsm_engine.fruit.v1.Pear: packed was", |file| {
        let unpacked = prost_types::FieldOptions {
            packed: Some(false),
            ..Default::default()
        };
        file.message_type[0].field[3].options = Some(unpacked);
    }),
    ("reserved 9 of vdsm_engine.fruit.v1.Pear is gone", |file| {
        file.message_type[0].reserved_range.clear();
    }),
    ("reserved stalk of vdsm_engine.fruit.v1.Pear is gone", |file| {
        file.message_type[0].reserved_name.clear();
    }),
    ("message vdsm_engine.fruit.v1.GetPearRequest is gone", |file| {
        file.message_type.remove(1);
    }),
    (
        "value 1 of vdsm_engine.fruit.v1.Ripeness is gone: reserve its number and its name",
        |file| {
            file.enum_type[0].value.remove(1);
        },
    ),
    ("value 1 of vdsm_engine.fruit.v1.Ripeness: name was", |file| {
        file.enum_type[0].value[1].name = Some("RIPENESS_HARD".to_owned());
    }),
    ("enum vdsm_engine.fruit.v1.Ripeness is gone", |file| {
        file.enum_type.clear()
    }),
    ("service vdsm_engine.fruit.v1.PearService is gone", |file| {
        file.service[0].name = Some("PearsService".to_owned());
    }),
    ("rpc vdsm_engine.fruit.v1.PearService/GetPear is gone", |file| {
        file.service[0].method[0].name = Some("ReadPear".to_owned());
    }),
    (
        "rpc vdsm_engine.fruit.v1.PearService/GetPear: request was",
        |file| {
            file.service[0].method[0].input_type = Some(".vdsm_engine.fruit.v1.Pear".to_owned());
        },
    ),
    (
        "rpc vdsm_engine.fruit.v1.PearService/GetPear: response was",
        |file| {
            file.service[0].method[0].output_type = Some(".vdsm_engine.fruit.v1.GetPearRequest".to_owned());
        },
    ),
    (
        "rpc vdsm_engine.fruit.v1.PearService/GetPear: server streaming was",
        |file| {
            file.service[0].method[0].server_streaming = Some(true);
        },
    ),
    (
        "rpc vdsm_engine.fruit.v1.PearService/GetPear: client streaming was",
        |file| {
            file.service[0].method[0].client_streaming = Some(true);
        },
    ),
    ("message vdsm_engine.fruit.v1.Pear is gone", |file| {
        file.package = Some("vdsm_engine.fruit.v2".to_owned());
    }),
    ("message vdsm_engine.fruit.v1.Pear: file was", |file| {
        file.name = Some("vdsm_engine/fruit/v1/pears.proto".to_owned());
    }),
    ("file vdsm_engine/fruit/v1/pear.proto: go_package was", |file| {
        file.options = None;
    }),
    ("file vdsm_engine/fruit/v1/pear.proto: syntax was", |file| {
        file.syntax = None;
    }),
];

#[test]
fn each_breaking_change_is_told() {
    for (expected, change) in BREAKING {
        let told = told(change);
        assert!(
            told.iter().any(|told| told.starts_with(expected)),
            "{expected}: {told:#?}"
        );
    }
}

#[test]
fn what_is_only_added_or_properly_retired_breaks_nothing() {
    let harmless: [fn(&mut FileDescriptorProto); 6] = [
        |_| {},
        |file| file.message_type[0].field.push(field(5, "colour", Type::String)),
        |file| {
            // Into a oneof that there is: whoever does not know it sees the oneof unset.
            let mut variant = field(5, "by_tree", Type::String);
            variant.oneof_index = Some(0);
            file.message_type[0].field.push(variant);
        },
        |file| file.enum_type[0].value.push(value(2, "RIPENESS_RIPE")),
        |file| {
            let mut list = file.service[0].method[0].clone();
            list.name = Some("ListPears".to_owned());
            file.service[0].method.push(list);
        },
        |file| {
            let pear = &mut file.message_type[0];
            pear.field.remove(1);
            pear.reserved_name.push("weight".to_owned());
            pear.reserved_range.push(range(2));
        },
    ];
    for change in harmless {
        assert_eq!(told(change), Vec::<String>::new());
    }
}
