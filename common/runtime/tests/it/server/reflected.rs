//! What reflection tells.

use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Asked;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;

use super::*;

#[tokio::test]
async fn what_is_unknown_is_an_error_in_its_place_and_the_stream_goes_on() {
    let running = start().await;
    let mut client = ServerReflectionClient::new(channel(running.address).await);
    let asked = [
        Some(Asked::FileContainingSymbol("moon.Phase".into())),
        Some(Asked::FileContainingSymbol("moon.Phase".repeat(100))),
        Some(Asked::FileContainingSymbol("m".repeat(100_000))),
        Some(Asked::FileByFilename("moon.proto".into())),
        Some(Asked::FileContainingSymbol(
            "vdsm_engine.host.v1.TaskService".into(),
        )),
        None,
        Some(Asked::ListServices(String::new())),
    ];
    let requests = asked.map(|message_request| ServerReflectionRequest {
        host: String::new(),
        message_request,
    });
    let answers = client.server_reflection_info(tokio_stream::iter(requests));
    let mut answers = patient(answers).await.unwrap().into_inner();
    for code in [
        Code::NotFound,
        Code::NotFound,
        Code::InvalidArgument,
        Code::NotFound,
        Code::NotFound,
        Code::InvalidArgument,
    ] {
        let answer = patient(answers.message()).await.unwrap().unwrap();
        assert!(
            prost::Message::encoded_len(&answer) < 8 << 10,
            "a question is not said again at any length"
        );
        match answer.message_response {
            Some(Answer::ErrorResponse(error)) => {
                assert_eq!(Code::from(error.error_code), code);
                assert!(error.error_message.len() <= 1_024, "{}", error.error_message);
            }
            other => panic!("{other:?}"),
        }
    }
    let listed = match patient(answers.message())
        .await
        .unwrap()
        .unwrap()
        .message_response
    {
        Some(Answer::ListServicesResponse(listed)) => listed,
        other => panic!("{other:?}"),
    };
    let names: Vec<&str> = listed
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            NAME,
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection"
        ]
    );
}
