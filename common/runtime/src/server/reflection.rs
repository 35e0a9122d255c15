//! `grpc.reflection`, in both its versions, of what the port serves and nothing else. What is not known is an
//! `error_response` on the stream, which goes on.

use std::sync::Arc;

use common::words::Label;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Response, Status, Streaming};

use super::methods::Methods;
use crate::served;

/// Bytes of a question: names of all that is served are far shorter. Each answer repeats its question.
const MAX_ASKED: usize = 2 << 10;

/// Tells what a port serves.
#[derive(Debug, Clone)]
pub(super) struct Reflection(Arc<Methods>);

impl Reflection {
    pub(super) const fn of(methods: Arc<Methods>) -> Self {
        Self(methods)
    }
}

macro_rules! reflection {
    ($version:ident, $build:ident) => {
        mod $version {
            use super::*;
            use tonic_reflection::pb::$version as wire;
            use wire::server_reflection_request::MessageRequest as Asked;
            use wire::server_reflection_response::MessageResponse as Answer;
            use wire::server_reflection_server::{ServerReflection, ServerReflectionServer};

            #[tonic::async_trait]
            impl ServerReflection for Reflection {
                type ServerReflectionInfoStream = std::pin::Pin<
                    Box<
                        dyn tokio_stream::Stream<Item = Result<wire::ServerReflectionResponse, Status>>
                            + Send,
                    >,
                >;

                async fn server_reflection_info(
                    &self,
                    request: Request<Streaming<wire::ServerReflectionRequest>>,
                ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                    let methods = Arc::clone(&self.0);
                    let answers = request.into_inner().map(move |asked| {
                        let asked = asked?;
                        let bytes = prost::Message::encoded_len(&asked);
                        if bytes > MAX_ASKED {
                            // It is not said again either.
                            let words =
                                format!("the query has {bytes} bytes: nothing here has a name that long");
                            return Ok(wire::ServerReflectionResponse {
                                message_response: Some(error(Code::InvalidArgument, words)),
                                ..Default::default()
                            });
                        }
                        Ok(wire::ServerReflectionResponse {
                            valid_host: asked.host.clone(),
                            message_response: Some(answer(&methods, asked.message_request.as_ref())),
                            original_request: Some(asked),
                        })
                    });
                    Ok(Response::new(Box::pin(answers)))
                }
            }

            fn answer(methods: &Methods, asked: Option<&Asked>) -> Answer {
                match asked {
                    Some(Asked::FileByFilename(name)) => file(methods.file(name), || {
                        format!("this port has no file {}", Label::from(name))
                    }),
                    Some(Asked::FileContainingSymbol(symbol)) => file(methods.file_of(symbol), || {
                        format!(
                            "this port serves nothing with the name {}",
                            Label::from(symbol)
                        )
                    }),
                    // None of the messages can be extended; tools expect that the question is answered.
                    Some(Asked::AllExtensionNumbersOfType(name)) => {
                        let base_type_name = name.clone();
                        Answer::AllExtensionNumbersResponse(wire::ExtensionNumberResponse {
                            base_type_name,
                            extension_number: Vec::new(),
                        })
                    }
                    Some(Asked::FileContainingExtension(_)) => {
                        error(Code::NotFound, "no message has extensions".to_owned())
                    }
                    Some(Asked::ListServices(_)) => Answer::ListServicesResponse(wire::ListServiceResponse {
                        service: methods
                            .services
                            .iter()
                            .map(|name| wire::ServiceResponse { name: name.clone() })
                            .collect(),
                    }),
                    None => error(
                        Code::InvalidArgument,
                        "the request asks for nothing: set one field of message_request".to_owned(),
                    ),
                }
            }

            fn file(found: Option<&Vec<u8>>, otherwise: impl FnOnce() -> String) -> Answer {
                match found {
                    Some(file) => Answer::FileDescriptorResponse(wire::FileDescriptorResponse {
                        file_descriptor_proto: vec![file.clone()],
                    }),
                    None => error(Code::NotFound, otherwise()),
                }
            }

            fn error(code: Code, error_message: String) -> Answer {
                Answer::ErrorResponse(wire::ErrorResponse {
                    error_code: code.into(),
                    error_message,
                })
            }

            impl Reflection {
                pub(in crate::server) fn $build(&self) -> ServerReflectionServer<Self> {
                    served!(ServerReflectionServer::new(self.clone()))
                }
            }
        }
    };
}

reflection!(v1, build_v1);
reflection!(v1alpha, build_v1alpha);
