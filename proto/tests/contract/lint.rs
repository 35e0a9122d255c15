//! The contract has the form that buf's STANDARD rules ask for, and comments where people look for them. Names of the
//! rules are buf's; what is excepted stands in a table, with its reason.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use super::descriptors::{comment, enums, messages, methods, present, services};

/// A rule: what it finds wrong with a file, one subject each.
type Rule = (
    &'static str,
    fn(&FileDescriptorProto, &FileDescriptorSet) -> Vec<String>,
);

/// What is not as a rule wants it, and why that is so.
const EXCEPTED: &[(&str, &str, &str)] = &[];

const RULES: &[Rule] = &[
    ("PACKAGE_DIRECTORY_MATCH", |file, _| {
        let directory = file.package().replace('.', "/");
        let is_there = file
            .name()
            .rsplit_once('/')
            .is_some_and(|(folder, _)| folder == directory);
        wrong(!is_there, file.name())
    }),
    ("PACKAGE_LOWER_SNAKE_CASE", |file, _| {
        wrong(!file.package().split('.').all(is_lower_snake), file.package())
    }),
    ("PACKAGE_VERSION_SUFFIX", |file, _| {
        let version = file
            .package()
            .rsplit('.')
            .next()
            .and_then(|last| last.strip_prefix('v'));
        let is_version = version.is_some_and(|version| version.parse::<u32>().is_ok());
        wrong(!is_version, file.package())
    }),
    ("PACKAGE_SAME_OPTIONS", |file, set| {
        let kin = set.file.iter().filter(|other| other.package() == file.package());
        wrong(kin.map(options).any(|other| other != options(file)), file.name())
    }),
    ("PACKAGE_NO_IMPORT_CYCLE", |file, set| {
        let imported = reachable(file.package(), set);
        wrong(imported.contains(file.package()), file.package())
    }),
    ("FILE_LOWER_SNAKE_CASE", |file, _| {
        let base = base_name(file.name());
        wrong(!is_lower_snake(base.trim_end_matches(".proto")), file.name())
    }),
    // Not one of buf's: some languages put all that they generate into one folder (docs/adr/0019).
    ("FILE_BASE_NAME_UNIQUE", |file, set| {
        let twins = set
            .file
            .iter()
            .filter(|other| base_name(other.name()) == base_name(file.name()));
        wrong(twins.count() != 1, file.name())
    }),
    ("SYNTAX_SPECIFIED", |file, _| {
        wrong(file.syntax() != "proto3", file.name())
    }),
    ("IMPORT_NO_PUBLIC", |file, _| {
        wrong(!file.public_dependency.is_empty(), file.name())
    }),
    ("IMPORT_NO_WEAK", |file, _| {
        wrong(!file.weak_dependency.is_empty(), file.name())
    }),
    ("IMPORT_USED", |file, set| {
        let used = files_of(&types_used(file), set);
        let ours = file
            .dependency
            .iter()
            .filter(|name| set.file.iter().any(|f| f.name() == *name));
        ours.filter(|name| !used.contains(name.as_str()))
            .cloned()
            .collect()
    }),
    ("MESSAGE_PASCAL_CASE", |file, _| {
        of(messages(file), |name, _| !is_pascal(last(name)))
    }),
    ("FIELD_LOWER_SNAKE_CASE", |file, _| {
        fields(file).filter(|name| !is_lower_snake(last(name))).collect()
    }),
    ("FIELD_NOT_REQUIRED", |file, _| {
        of(messages(file), |_, message| {
            message.field.iter().any(|field| field.label() == Label::Required)
        })
    }),
    ("ONEOF_LOWER_SNAKE_CASE", |file, _| {
        of(messages(file), |_, message| {
            message
                .oneof_decl
                .iter()
                // One that an `optional` field makes is called after it, with a `_` before.
                .any(|oneof| !is_lower_snake(oneof.name().trim_start_matches('_')))
        })
    }),
    ("ENUM_PASCAL_CASE", |file, _| {
        of(enums(file), |name, _| !is_pascal(last(name)))
    }),
    ("ENUM_NO_ALLOW_ALIAS", |file, _| {
        of(enums(file), |_, one| {
            one.options.as_ref().is_some_and(|options| options.allow_alias())
        })
    }),
    ("ENUM_FIRST_VALUE_ZERO", |file, _| {
        of(enums(file), |_, one| {
            one.value.first().is_none_or(|value| value.number() != 0)
        })
    }),
    ("ENUM_ZERO_VALUE_SUFFIX", |file, _| {
        values(file, |_, number, value| {
            number == 0 && !value.ends_with("_UNSPECIFIED")
        })
    }),
    ("ENUM_VALUE_PREFIX", |file, _| {
        values(file, |one, _, value| {
            !value.starts_with(&format!("{}_", upper_snake(one)))
        })
    }),
    ("ENUM_VALUE_UPPER_SNAKE_CASE", |file, _| {
        values(file, |_, _, value| {
            !is_lower_snake(&value.to_lowercase()) || value != value.to_uppercase()
        })
    }),
    ("SERVICE_PASCAL_CASE", |file, _| {
        of(services(file), |name, _| !is_pascal(last(name)))
    }),
    ("SERVICE_SUFFIX", |file, _| {
        of(services(file), |name, _| !name.ends_with("Service"))
    }),
    ("RPC_PASCAL_CASE", |file, _| {
        of(methods(file), |_, method| !is_pascal(method.name()))
    }),
    ("RPC_REQUEST_STANDARD_NAME", |file, _| {
        of(methods(file), |_, method| {
            last(method.input_type()) != format!("{}Request", method.name())
        })
    }),
    ("RPC_RESPONSE_STANDARD_NAME", |file, _| {
        of(methods(file), |_, method| {
            last(method.output_type()) != format!("{}Response", method.name())
        })
    }),
    ("RPC_REQUEST_RESPONSE_UNIQUE", |file, set| {
        let mut uses = BTreeMap::<&str, usize>::new();
        for (_, method) in set.file.iter().flat_map(methods) {
            *uses.entry(method.input_type()).or_default() += 1;
            *uses.entry(method.output_type()).or_default() += 1;
        }
        of(methods(file), |_, method| {
            uses[method.input_type()] > 1 || uses[method.output_type()] > 1
        })
    }),
    ("COMMENT_SERVICE", |file, _| {
        uncommented(
            file,
            file.service
                .iter()
                .enumerate()
                .map(|(at, one)| (vec![6, index(at)], one.name())),
        )
    }),
    ("COMMENT_RPC", |file, _| {
        let methods = file.service.iter().enumerate().flat_map(|(service, one)| {
            let method = move |(at, method): (usize, _)| (vec![6, index(service), 2, index(at)], method);
            one.method.iter().enumerate().map(method)
        });
        uncommented(file, methods.map(|(path, method)| (path, method.name())))
    }),
    ("COMMENT_ENUM", |file, _| {
        uncommented(
            file,
            file.enum_type
                .iter()
                .enumerate()
                .map(|(at, one)| (vec![5, index(at)], one.name())),
        )
    }),
    // Requests, responses and parameters are what their RPC or their command says.
    ("COMMENT_MESSAGE", |file, _| {
        let speaks = |name: &str| {
            !["Request", "Response", "Parameters"]
                .iter()
                .any(|end| name.ends_with(end))
        };
        let messages = file.message_type.iter().enumerate();
        let speaking = messages.filter(|(_, message)| speaks(message.name()));
        uncommented(
            file,
            speaking.map(|(at, message)| (vec![4, index(at)], message.name())),
        )
    }),
];

#[test]
fn the_contract_has_the_form_that_the_rules_ask_for() {
    let found = lint(&present());
    let mut excepted = BTreeSet::new();
    let wrong: Vec<_> = found
        .iter()
        .filter(|(rule, subject)| {
            let exception = EXCEPTED.iter().position(|(r, s, _)| r == rule && s == subject);
            excepted.extend(exception);
            exception.is_none()
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(
        excepted.len(),
        EXCEPTED.len(),
        "an exception that nothing needs goes"
    );
    assert!(EXCEPTED.iter().all(|(_, _, reason)| !reason.is_empty()));
}

fn lint(set: &FileDescriptorSet) -> Vec<(&'static str, String)> {
    let found = set.file.iter().flat_map(|file| {
        let of_rule = move |(rule, find): &Rule| {
            let found: Vec<_> = find(file, set)
                .into_iter()
                .map(|subject| (*rule, subject))
                .collect();
            found
        };
        RULES.iter().flat_map(of_rule)
    });
    found.collect()
}

/// A change to a file that makes it break a rule.
type Provocation = (&'static str, fn(&mut FileDescriptorProto));

/// Of `engine/v1/vm_service.proto`, and for enums of `engine/v1/command.proto`.
const PROVOKED: &[Provocation] = &[
    ("PACKAGE_DIRECTORY_MATCH", |file| {
        file.name = Some("vdsm_engine/v1/vm_service.proto".to_owned())
    }),
    ("PACKAGE_LOWER_SNAKE_CASE", |file| {
        file.package = Some("vdsm_engine.Engine.v1".to_owned())
    }),
    ("PACKAGE_VERSION_SUFFIX", |file| {
        file.package = Some("vdsm_engine.engine".to_owned())
    }),
    ("PACKAGE_SAME_OPTIONS", |file| file.options = None),
    ("PACKAGE_NO_IMPORT_CYCLE", |file| {
        // What the engine's files import imports one of theirs.
        file.package = Some("vdsm_engine.task.v1".to_owned());
    }),
    ("FILE_LOWER_SNAKE_CASE", |file| {
        file.name = Some("vdsm_engine/engine/v1/vmService.proto".to_owned())
    }),
    ("FILE_BASE_NAME_UNIQUE", |file| {
        file.name = Some("vdsm_engine/other/v1/command.proto".to_owned())
    }),
    ("SYNTAX_SPECIFIED", |file| file.syntax = None),
    ("IMPORT_NO_PUBLIC", |file| file.public_dependency.push(0)),
    ("IMPORT_NO_WEAK", |file| file.weak_dependency.push(0)),
    ("IMPORT_USED", |file| {
        file.dependency.push("vdsm_engine/task/v1/watch.proto".to_owned())
    }),
    ("MESSAGE_PASCAL_CASE", |file| {
        file.message_type[0].name = Some("create_vm_request".to_owned())
    }),
    ("FIELD_LOWER_SNAKE_CASE", |file| {
        file.message_type[0].field[0].name = Some("vmId".to_owned())
    }),
    ("FIELD_NOT_REQUIRED", |file| {
        file.message_type[0].field[0].label = Some(Label::Required.into())
    }),
    ("ONEOF_LOWER_SNAKE_CASE", |file| {
        let oneof = prost_types::OneofDescriptorProto {
            name: Some("Which".to_owned()),
            ..Default::default()
        };
        file.message_type[0].oneof_decl.push(oneof);
    }),
    ("ENUM_PASCAL_CASE", |file| {
        file.enum_type[0].name = Some("command_kind".to_owned())
    }),
    ("ENUM_NO_ALLOW_ALIAS", |file| {
        file.enum_type[0].options = Some(prost_types::EnumOptions {
            allow_alias: Some(true),
            ..Default::default()
        });
    }),
    ("ENUM_FIRST_VALUE_ZERO", |file| {
        file.enum_type[0].value[0].number = Some(1)
    }),
    ("ENUM_ZERO_VALUE_SUFFIX", |file| {
        file.enum_type[0].value[0].name = Some("COMMAND_KIND_NONE".to_owned())
    }),
    ("ENUM_VALUE_PREFIX", |file| {
        file.enum_type[0].value[1].name = Some("KIND_ADD_HOST".to_owned())
    }),
    ("ENUM_VALUE_UPPER_SNAKE_CASE", |file| {
        file.enum_type[0].value[1].name = Some("COMMAND_KIND_AddHost".to_owned())
    }),
    ("SERVICE_PASCAL_CASE", |file| {
        file.service[0].name = Some("vmService".to_owned())
    }),
    ("SERVICE_SUFFIX", |file| {
        file.service[0].name = Some("Vms".to_owned())
    }),
    ("RPC_PASCAL_CASE", |file| {
        file.service[0].method[0].name = Some("createVm".to_owned())
    }),
    ("RPC_REQUEST_STANDARD_NAME", |file| {
        file.service[0].method[0].input_type = Some(".vdsm_engine.engine.v1.NewVm".to_owned());
    }),
    ("RPC_RESPONSE_STANDARD_NAME", |file| {
        file.service[0].method[0].output_type = Some(".vdsm_engine.engine.v1.NewVm".to_owned());
    }),
    ("RPC_REQUEST_RESPONSE_UNIQUE", |file| {
        let method = file.service[0].method[0].clone();
        file.service[0].method.push(method);
    }),
    ("COMMENT_SERVICE", |file| {
        file.source_code_info = Some(Default::default())
    }),
    ("COMMENT_RPC", |file| {
        file.source_code_info = Some(Default::default())
    }),
    ("COMMENT_ENUM", |file| {
        file.source_code_info = Some(Default::default())
    }),
    ("COMMENT_MESSAGE", |file| {
        file.source_code_info = Some(Default::default())
    }),
];

#[test]
fn each_rule_finds_what_it_is_for() {
    let provoked: BTreeSet<_> = PROVOKED.iter().map(|(rule, _)| *rule).collect();
    let rules: BTreeSet<_> = RULES.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(provoked, rules);
    for (rule, change) in PROVOKED {
        let of_messages = rule.starts_with("COMMENT_MESSAGE") || rule.contains("ENUM");
        let name = if of_messages {
            "engine/v1/command.proto"
        } else {
            "engine/v1/vm_service.proto"
        };
        let mut set = present();
        let count = |set: &FileDescriptorSet| lint(set).iter().filter(|(found, _)| found == rule).count();
        let before = count(&set);
        change(
            set.file
                .iter_mut()
                .find(|file| file.name().ends_with(name))
                .unwrap(),
        );
        assert!(count(&set) > before, "{rule} finds nothing");
    }
}

fn wrong(is_wrong: bool, subject: &str) -> Vec<String> {
    is_wrong.then(|| subject.to_owned()).into_iter().collect()
}

/// The names of those that are wrong.
fn of<T>(all: impl IntoIterator<Item = (String, T)>, is_wrong: impl Fn(&str, T) -> bool) -> Vec<String> {
    all.into_iter()
        .filter_map(|(name, one)| is_wrong(&name, one).then_some(name))
        .collect()
}

/// The values that are wrong, told by their enum's name, their number and their own name.
fn values(file: &FileDescriptorProto, is_wrong: impl Fn(&str, i32, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, one) in enums(file) {
        let wrong = one
            .value
            .iter()
            .filter(|value| is_wrong(one.name(), value.number(), value.name()));
        found.extend(wrong.map(|value| format!("{name}.{}", value.name())));
    }
    found
}

fn fields(file: &FileDescriptorProto) -> impl Iterator<Item = String> {
    messages(file).into_iter().flat_map(|(name, message)| {
        let field = move |field: &prost_types::FieldDescriptorProto| format!("{name}.{}", field.name());
        message.field.iter().map(field).collect::<Vec<_>>()
    })
}

fn uncommented<'a>(
    file: &FileDescriptorProto,
    all: impl Iterator<Item = (Vec<i32>, &'a str)>,
) -> Vec<String> {
    all.filter(|(path, _)| comment(file, path).is_empty())
        .map(|(_, name)| format!("{}.{name}", file.package()))
        .collect()
}

fn index(at: usize) -> i32 {
    i32::try_from(at).unwrap()
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn last(name: &str) -> &str {
    name.rsplit(['.', '/']).next().unwrap_or(name)
}

/// What files of one package say alike.
fn options(file: &FileDescriptorProto) -> [String; 4] {
    let options = file.options.clone().unwrap_or_default();
    [
        options.csharp_namespace().to_owned(),
        options.go_package().to_owned(),
        options.java_package().to_owned(),
        options.java_multiple_files().to_string(),
    ]
}

/// The packages that a package imports, and those that they import; itself only where there is a circle.
fn reachable<'a>(package: &str, set: &'a FileDescriptorSet) -> BTreeSet<&'a str> {
    let imports = |package: &str| {
        let files = set.file.iter().filter(move |file| file.package() == package);
        let names: BTreeSet<_> = files.flat_map(|file| &file.dependency).collect();
        let imported = set
            .file
            .iter()
            .filter(move |file| names.iter().any(|name| *name == file.name()));
        let package = package.to_owned();
        imported
            .map(|file| file.package())
            .filter(move |other| *other != package)
    };
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = imports(package).collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(imports(next));
        }
    }
    found
}

/// The types that fields and RPCs of a file refer to.
fn types_used(file: &FileDescriptorProto) -> BTreeSet<String> {
    let of_message = |message: &DescriptorProto| {
        let types = message.field.iter().map(|field| field.type_name().to_owned());
        types.collect::<Vec<_>>()
    };
    let fields = messages(file)
        .into_iter()
        .flat_map(|(_, message)| of_message(message));
    let calls = methods(file)
        .flat_map(|(_, method)| [method.input_type().to_owned(), method.output_type().to_owned()]);
    fields.chain(calls).collect()
}

/// The files that declare these types.
fn files_of<'a>(types: &BTreeSet<String>, set: &'a FileDescriptorSet) -> BTreeSet<&'a str> {
    let declares = |file: &FileDescriptorProto| {
        let messages = messages(file).into_iter().map(|(name, _)| name);
        let enums = enums(file).into_iter().map(|(name, _)| name);
        let all: Vec<_> = messages.chain(enums).collect();
        all.iter().any(|name| types.contains(&format!(".{name}")))
    };
    set.file
        .iter()
        .filter(|file| declares(file))
        .map(FileDescriptorProto::name)
        .collect()
}

fn is_lower_snake(text: &str) -> bool {
    let is_plain = text
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    is_plain
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.contains("__")
        && !text.ends_with('_')
}

fn is_pascal(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase()) && text.chars().all(|c| c.is_ascii_alphanumeric())
}

fn upper_snake(pascal: &str) -> String {
    let mut snake = String::new();
    for letter in pascal.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_uppercase());
    }
    snake
}
