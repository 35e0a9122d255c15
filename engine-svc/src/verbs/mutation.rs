//! A client's request that becomes a command, and what is answered to it.

use common::fault::Fault;
use engine_core::model::{CommandRequest, Requested};
use proto::engine::v1 as wire;

/// The part of a request that is no part of its body, by which one request is told from another.
pub(crate) struct Envelope {
    /// As the client gave it.
    pub(crate) request_id: String,
    pub(crate) validate_only: bool,
    /// For how long to wait for the locks. It stays in the body as well.
    pub(crate) lock_wait: Option<prost_types::Duration>,
}

/// What is answered to a request that became a command, or would.
pub(crate) struct Answered {
    pub(crate) command: wire::Command,
    /// The id of what the command is about.
    pub(crate) entity_id: String,
    /// Empty where nothing was changed.
    pub(crate) token: String,
}

/// A request that becomes a command.
pub(crate) trait Mutation: prost::Message + Sized {
    /// The RPC's name: part of the scope of the request's id.
    const RPC: &'static str;

    type Response;

    /// What is asked for.
    ///
    /// # Errors
    /// The fault names the field that is wrong.
    fn request(&self) -> Result<CommandRequest, Fault>;

    /// Takes the envelope off.
    fn open(&mut self) -> Envelope;

    fn response(answered: Answered) -> Self::Response;
}

/// How the request for a root is read.
pub(super) trait Asked: Requested {
    /// The request as it comes.
    type Message;

    /// The RPC's name.
    #[cfg(test)]
    const RPC: &'static str;

    /// # Errors
    /// The fault names the field that is wrong.
    fn read(message: &Self::Message) -> Result<Self::Request, Fault>;
}

/// `mutation! { CreateDisk: CreateDiskRequest => CreateDiskResponse { disk_id }, read }`: the request is read by `read`, and the
/// id of what the command is about is answered under that name, where it is.
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
