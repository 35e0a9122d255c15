//! A client's request that becomes a command, and the answer to it.

use common::fault::Fault;
use engine_core::model::{CommandRequest, Requested};
use proto::engine::v1 as wire;

/// The part of a request that is not part of its body.
pub(crate) struct Envelope {
    /// As the client gave it.
    pub(crate) request_id: String,
    pub(crate) validate_only: bool,
    /// How long to wait for the locks. This stays in the body as well.
    pub(crate) lock_wait: Option<prost_types::Duration>,
}

/// The answer to a request that became a command, or would become one.
pub(crate) struct Answered {
    pub(crate) command: wire::Command,
    /// The id of the entity that the command is about.
    pub(crate) entity_id: String,
    /// Empty if nothing was changed.
    pub(crate) token: String,
}

/// A request that becomes a command.
pub(crate) trait Mutation: prost::Message + Sized {
    /// The RPC's name: part of the scope of the request's id.
    const RPC: &'static str;

    type Response;

    /// The request, validated.
    ///
    /// # Errors
    /// The fault names the wrong field.
    fn request(&self) -> Result<CommandRequest, Fault>;

    /// Removes the envelope from the request.
    fn open(&mut self) -> Envelope;

    fn response(answered: Answered) -> Self::Response;
}

/// How the request for a root is read.
pub(super) trait Asked: Requested {
    /// The RPC's request.
    type Message;

    /// The RPC's name.
    #[cfg(test)]
    const RPC: &'static str;

    /// # Errors
    /// The fault names the wrong field.
    fn read(message: &Self::Message) -> Result<Self::Request, Fault>;
}

/// `mutation! { CreateDisk: CreateDiskRequest => CreateDiskResponse { disk_id }, read }`: `read` reads the request,
/// and the answer has the id of the command's entity under the given name, if there is one.
macro_rules! mutation {
    ($root:ident: $request:ident => $response:ident $({ $id:ident })?, $read:ident) => {
        impl crate::verbs::mutation::Asked for engine_core::model::$root {
            type Message = proto::engine::v1::$request;

            #[cfg(test)]
            const RPC: &'static str = stringify!($root);

            fn read(message: &Self::Message) -> Result<Self::Request, common::fault::Fault> {
                $read(message)
            }
        }

        impl crate::verbs::Mutation for proto::engine::v1::$request {
            const RPC: &'static str = stringify!($root);

            type Response = proto::engine::v1::$response;

            fn request(&self) -> Result<engine_core::model::CommandRequest, common::fault::Fault> {
                use crate::verbs::mutation::Asked as _;
                engine_core::model::$root::read(self).map(engine_core::model::CommandRequest::$root)
            }

            fn open(&mut self) -> crate::verbs::Envelope {
                crate::verbs::Envelope {
                    request_id: std::mem::take(&mut self.request_id),
                    validate_only: std::mem::take(&mut self.validate_only),
                    lock_wait: self.lock_wait,
                }
            }

            fn response(answered: crate::verbs::Answered) -> Self::Response {
                proto::engine::v1::$response {
                    $($id: answered.entity_id,)?
                    command: Some(answered.command),
                    token: answered.token,
                }
            }
        }
    };
}
