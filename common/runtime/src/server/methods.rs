//! What a port serves, from the descriptors: its methods and their kinds, and what reflection tells of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use common::fault::FaultCode;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use proto::codes;

use super::traffic::Class;

/// Services that every port has beside its own.
const EVERYWHERE: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// What statuses refer to, so that tools can show it in words.
const DETAILS: [&str; 2] = ["google.rpc.ErrorInfo", "vdsm_engine.task.v1.Fault"];

/// A request with a field of this name says itself how long it waits.
const WAITS: &str = "timeout";

/// See the module.
#[derive(Debug)]
pub(super) struct Methods {
    pub(super) services: Vec<String>,
    classes: HashMap<Arc<str>, Class>,
    /// Paths of those to which a client sends a stream of messages.
    take_streams: BTreeSet<String>,
    files: HashMap<String, Vec<u8>>,
    /// Symbols, by the file that has each.
    symbols: HashMap<String, String>,
    /// Answers that the contract does not have, and that were told.
    told: Mutex<BTreeSet<(Arc<str>, FaultCode)>>,
}

impl Methods {
    /// Of a port that serves these services, by their full names.
    ///
    /// # Errors
    /// [`prost::DecodeError`] if the descriptors that are compiled in are none.
    pub(super) fn of<'a>(services: impl IntoIterator<Item = &'a str>) -> Result<Self, prost::DecodeError> {
        let mut all = BTreeMap::new();
        for set in [
            proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_types::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(set)?.file {
                all.entry(file.name().to_owned()).or_insert(file);
            }
        }
        let mut services: Vec<String> = services.into_iter().map(str::to_owned).collect();
        services.extend(EVERYWHERE.map(str::to_owned));
        let served: BTreeSet<&str> = services.iter().map(String::as_str).collect();
        let mut found = Self {
            classes: HashMap::new(),
            take_streams: BTreeSet::new(),
            files: HashMap::new(),
            symbols: HashMap::new(),
            told: Mutex::default(),
            services: services.clone(),
        };
        for name in closure(&all, &served) {
            let file = &all[&name];
            found.add(file, &served);
            found.files.insert(name, file.encode_to_vec());
        }
        let waits = found.waits(&all);
        for file in all.values() {
            found.classify(file, &served, &waits);
        }
        Ok(found)
    }

    /// A method's path and its kind; none where it is not served.
    pub(super) fn find(&self, path: &str) -> Option<(&Arc<str>, Class)> {
        self.classes
            .get_key_value(path)
            .map(|(path, class)| (path, *class))
    }

    /// Compares what a method refuses a call with to the contract. An answer that is not in it goes out all the same: it is
    /// a defect, and told once.
    pub(super) fn compare(&self, path: &Arc<str>, code: FaultCode) {
        if self.is_news(path, code) {
            tracing::error!(rpc = &**path, %code, "{}", codes::UNDECLARED);
        }
    }

    /// Whether the contract does not have this answer and that was not told yet.
    fn is_news(&self, path: &Arc<str>, code: FaultCode) -> bool {
        if codes::may_answer(path, code) != Some(false) {
            return false;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert((Arc::clone(path), code))
    }

    /// Whether a client sends a stream of messages to a method; else it sends one.
    pub(super) fn takes_stream(&self, path: &str) -> bool {
        self.take_streams.contains(path)
    }

    /// An encoded descriptor, by its name.
    pub(super) fn file(&self, name: &str) -> Option<&Vec<u8>> {
        self.files.get(name)
    }

    /// The encoded descriptor that has a symbol.
    pub(super) fn file_of(&self, symbol: &str) -> Option<&Vec<u8>> {
        self.files.get(self.symbols.get(symbol)?)
    }

    fn add(&mut self, file: &FileDescriptorProto, served: &BTreeSet<&str>) {
        let mut symbols = Vec::new();
        let package = file.package();
        file.message_type
            .iter()
            .for_each(|message| of_message(package, message, &mut symbols));
        file.enum_type
            .iter()
            .for_each(|one| of_enum(package, one, &mut symbols));
        for service in &file.service {
            let name = within(package, service.name());
            if served.contains(name.as_str()) {
                symbols.extend(service.method.iter().map(|method| within(&name, method.name())));
                symbols.push(name);
            }
        }
        let symbols = symbols.into_iter().map(|symbol| (symbol, file.name().to_owned()));
        self.symbols.extend(symbols);
    }

    fn classify(&mut self, file: &FileDescriptorProto, served: &BTreeSet<&str>, waits: &BTreeSet<String>) {
        for service in &file.service {
            let name = within(file.package(), service.name());
            if !served.contains(name.as_str()) {
                continue;
            }
            for method in &service.method {
                let streams = method.server_streaming() || method.client_streaming();
                let class = match (streams, waits.contains(method.input_type())) {
                    (true, _) => Class::Watch,
                    (false, true) => Class::Wait,
                    (false, false) => Class::Request,
                };
                let path = format!("/{name}/{}", method.name());
                if method.client_streaming() {
                    self.take_streams.insert(path.clone());
                }
                self.classes.insert(path.into(), class);
            }
        }
    }

    /// The requests that say how long they wait, as methods refer to them.
    fn waits(&self, all: &BTreeMap<String, FileDescriptorProto>) -> BTreeSet<String> {
        let messages = all.values().flat_map(|file| {
            file.message_type
                .iter()
                .map(move |message| (file.package(), message))
        });
        messages
            .filter(|(_, message)| message.field.iter().any(|field| field.name() == WAITS))
            .map(|(package, message)| format!(".{}", within(package, message.name())))
            .collect()
    }
}

/// The files that declare what is served and what statuses refer to, and all that these import.
fn closure(all: &BTreeMap<String, FileDescriptorProto>, served: &BTreeSet<&str>) -> BTreeSet<String> {
    let is_wanted = |file: &FileDescriptorProto| {
        let has = |name: &str| {
            file.message_type
                .iter()
                .any(|message| within(file.package(), message.name()) == name)
        };
        let mut services = file.service.iter();
        services.any(|service| served.contains(within(file.package(), service.name()).as_str()))
            || DETAILS.iter().any(|name| has(name))
    };
    let mut found = BTreeSet::new();
    let mut open: VecDeque<&FileDescriptorProto> = all.values().filter(|file| is_wanted(file)).collect();
    while let Some(file) = open.pop_front() {
        if found.insert(file.name().to_owned()) {
            open.extend(file.dependency.iter().filter_map(|name| all.get(name)));
        }
    }
    found
}

fn of_message(within_what: &str, message: &DescriptorProto, symbols: &mut Vec<String>) {
    let name = within(within_what, message.name());
    symbols.extend(message.field.iter().map(|field| within(&name, field.name())));
    symbols.extend(message.oneof_decl.iter().map(|oneof| within(&name, oneof.name())));
    message
        .nested_type
        .iter()
        .for_each(|nested| of_message(&name, nested, symbols));
    message
        .enum_type
        .iter()
        .for_each(|one| of_enum(&name, one, symbols));
    symbols.push(name);
}

fn of_enum(within_what: &str, one: &EnumDescriptorProto, symbols: &mut Vec<String>) {
    let name = within(within_what, one.name());
    // Values are named beside their enum, not in it; both spellings are asked for.
    for value in &one.value {
        symbols.push(within(within_what, value.name()));
        symbols.push(within(&name, value.name()));
    }
    symbols.push(name);
}

fn within(what: &str, name: &str) -> String {
    if what.is_empty() {
        name.to_owned()
    } else {
        format!("{what}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: &str = "vdsm_engine.engine.v1.CommandService";
    const HOST: &str = "vdsm_engine.host.v1.TaskService";

    #[test]
    fn a_port_knows_its_own_services_and_no_others() {
        for (own, other) in [(ENGINE, HOST), (HOST, ENGINE)] {
            let methods = Methods::of([own]).unwrap();
            assert!(methods.services.iter().any(|name| name == own));
            assert!(methods.file_of(own).is_some());
            assert!(methods.file_of(other).is_none(), "{other}");
            for details in DETAILS {
                assert!(methods.file_of(details).is_some(), "{details}");
            }
        }
    }

    #[test]
    fn all_that_a_file_imports_is_there() {
        let methods = Methods::of([ENGINE, HOST]).unwrap();
        for file in methods.files.values() {
            for import in FileDescriptorProto::decode(file.as_slice()).unwrap().dependency {
                assert!(methods.file(&import).is_some(), "{import}");
            }
        }
    }

    #[test]
    fn the_kind_of_a_method_is_told_by_its_descriptor() {
        let methods = Methods::of([ENGINE]).unwrap();
        for (method, class) in [
            ("GetCommand", Some(Class::Request)),
            ("WaitCommand", Some(Class::Wait)),
            ("WatchCommands", Some(Class::Watch)),
            ("Moon", None),
        ] {
            assert_eq!(
                class_of(&methods, &format!("/{ENGINE}/{method}")),
                class,
                "{method}"
            );
        }
        assert_eq!(
            class_of(&methods, "/grpc.health.v1.Health/Watch"),
            Some(Class::Watch)
        );
    }

    fn class_of(methods: &Methods, path: &str) -> Option<Class> {
        methods.find(path).map(|(_, class)| class)
    }

    #[test]
    fn an_answer_that_the_contract_does_not_have_is_told_once() {
        let methods = Methods::of([ENGINE]).unwrap();
        let path = |name: &str| methods.find(name).unwrap().0;
        let get = path("/vdsm_engine.engine.v1.CommandService/GetCommand");
        assert!(!methods.is_news(get, FaultCode::CommandNotFound));
        assert!(!methods.is_news(get, FaultCode::InvalidArgument));
        assert!(methods.is_news(get, FaultCode::QueueFull));
        assert!(!methods.is_news(get, FaultCode::QueueFull), "it was told");
        assert!(methods.is_news(get, FaultCode::TaskNotFound), "that is another");
        // The contract says nothing of what is not ours.
        let health = path("/grpc.health.v1.Health/Check");
        assert!(!methods.is_news(health, FaultCode::EntityNotFound));
        assert!(!methods.takes_stream("/grpc.health.v1.Health/Watch"));
        assert!(methods.takes_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"));
    }
}
