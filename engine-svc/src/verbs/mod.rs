//! The form of each kind of command outside the core: one file a kind, with the same name as there. A file says how
//! the parameters are kept and shown; for a command that a client can request, it also says how the request is read
//! and answered.
//!
//! The catalogue ensures that no kind is forgotten ([`engine_core::commands`]).

mod form;
#[macro_use]
mod wire_form;
#[macro_use]
mod mutation;

mod add_host;
mod attach_disk;
mod copy_disk;
mod copy_image;
mod create_disk;
mod create_image;
mod create_storage_domain;
mod create_vm;
mod detach_disk;
mod extend_disk;
mod remove_all_vm_images;
mod remove_disk;
mod remove_host;
mod remove_image;
mod remove_vm;
mod take_over_host;

use engine_core::model::{self, CommandKind, Parameters};
use proto::engine::v1 as wire;
use proto::engine::v1::command_parameters::Kind;

use crate::store::codec::{self, CodecError};

pub(crate) use mutation::{Answered, Envelope, Mutation};
use wire_form::WireForm;

macro_rules! dispatch {
    (roots { $($root:ident $ends:tt;)* } parts { $($part:ident;)* }) => {
        dispatch! { @forms $($root)* $($part)* }

        /// The RPCs that become commands. Their names are part of a request's record.
        #[cfg(test)]
        pub(crate) const RPCS: &[&str] = &[$(<model::$root as mutation::Asked>::RPC,)*];
    };
    (@forms $($kind:ident)*) => {
        /// The kind of a command.
        pub(crate) const fn kind(kind: CommandKind) -> wire::CommandKind {
            match kind {
                $(CommandKind::$kind => wire::CommandKind::$kind,)*
            }
        }

        pub(crate) fn read_kind(value: i32) -> Result<CommandKind, CodecError> {
            Ok(match wire::CommandKind::try_from(value) {
                $(Ok(wire::CommandKind::$kind) => CommandKind::$kind,)*
                Ok(wire::CommandKind::Unspecified) | Err(_) => return Err(codec::unknown("kind", value)),
            })
        }

        /// The parameters of a command.
        pub(crate) fn encode(parameters: &Parameters) -> wire::CommandParameters {
            let kind = match parameters {
                $(Parameters::$kind(p) => Kind::$kind(p.encode()),)*
            };
            wire::CommandParameters { kind: Some(kind) }
        }

        /// Reads the parameters of a command back.
        ///
        /// # Errors
        /// [`CodecError`] for parameters that [`encode`] did not write.
        pub(crate) fn decode(parameters: Option<wire::CommandParameters>) -> Result<Parameters, CodecError> {
            let kind = codec::required("parameters", parameters.and_then(|parameters| parameters.kind))?;
            Ok(match kind {
                $(Kind::$kind(p) => Parameters::$kind(WireForm::decode(p)?),)*
            })
        }

        /// Arbitrary parameters, of each kind.
        #[cfg(test)]
        pub(crate) fn any() -> impl proptest::strategy::Strategy<Value = Parameters> {
            use proptest::strategy::{Strategy as _, Union};
            Union::new([$(<model::$kind as WireForm>::any().prop_map(Parameters::$kind).boxed(),)*])
        }

        /// Whether the parameters name the entity of this id.
        pub(crate) fn names(parameters: &wire::CommandParameters, id: &str) -> bool {
            match &parameters.kind {
                $(Some(Kind::$kind(p)) => <model::$kind as WireForm>::names(p, id),)*
                None => false,
            }
        }
    };
}

engine_core::commands!(dispatch);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use engine_core::model::CommandParameters as _;
    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::test_runner::TestRunner;
    use prost::Message as _;
    use prost_types::{DescriptorProto, FileDescriptorSet, MethodDescriptorProto};

    use super::*;

    /// Enough that each kind is among them.
    const MANY: usize = 2_000;

    fn parameters() -> impl Iterator<Item = Parameters> {
        let mut runner = TestRunner::deterministic();
        let of = any();
        (0..MANY).map(move |_| of.new_tree(&mut runner).unwrap().current())
    }

    #[test]
    fn each_kind_is_read_back_as_it_was_kept_and_has_one_name_everywhere() {
        for parameters in parameters() {
            let kind = parameters.kind();
            assert_eq!(read_kind(super::kind(kind).into()), Ok(kind));
            assert_eq!(decode(Some(encode(&parameters))), Ok(parameters));
        }
        let name = |kind: &CommandKind| super::kind(*kind).as_str_name();
        let names: BTreeSet<&str> = CommandKind::ALL.iter().map(name).collect();
        assert_eq!(names.len(), CommandKind::ALL.len());
    }

    #[test]
    fn a_filter_by_entity_finds_a_command_by_all_that_people_are_told_of_it_under() {
        for parameters in parameters() {
            let shown = encode(&parameters);
            for entity in parameters.entities() {
                assert!(
                    names(&shown, &codec::entity(&entity).id),
                    "{parameters:?} by {entity}"
                );
            }
        }
    }

    /// The requests and answers of each mutating RPC, by the names of their fields.
    fn rpcs() -> Vec<(MethodDescriptorProto, Vec<String>, Vec<String>)> {
        let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let files = set
            .file
            .iter()
            .filter(|file| file.package() == "vdsm_engine.engine.v1");
        let messages: Vec<&DescriptorProto> = files.clone().flat_map(|file| &file.message_type).collect();
        let fields = |full_name: &str| {
            let name = full_name.rsplit('.').next().unwrap();
            let message = messages.iter().find(|message| message.name() == name).unwrap();
            message
                .field
                .iter()
                .map(|field| field.name().to_owned())
                .collect()
        };
        let methods = files
            .flat_map(|file| &file.service)
            .flat_map(|service| &service.method);
        methods
            .map(|rpc| (rpc.clone(), fields(rpc.input_type()), fields(rpc.output_type())))
            .collect()
    }

    #[test]
    fn each_root_has_an_rpc_and_each_rpc_that_makes_a_command_is_in_the_catalogue() {
        let has =
            |fields: &[String], wanted: &[&str]| wanted.iter().all(|name| fields.iter().any(|f| f == name));
        let served: BTreeSet<String> = (rpcs().into_iter())
            .filter(|(_, request, answer)| {
                has(request, &["request_id"]) && has(answer, &["command", "token"])
            })
            .inspect(|(rpc, request, _)| assert!(has(request, &["validate_only"]), "{}", rpc.name()))
            .map(|(rpc, ..)| rpc.name().to_owned())
            .collect();
        assert_eq!(served, RPCS.iter().map(|rpc| (*rpc).to_owned()).collect());
        let roots = CommandKind::ALL.iter().filter(|kind| kind.is_root());
        assert_eq!(
            roots.map(|kind| kind.name()).collect::<BTreeSet<_>>(),
            RPCS.iter().copied().collect()
        );
    }
}
