//! Requests of arbitrary bytes, to every RPC of both services: each gets an answer that says what is wrong, none is
//! the service's own fault, and both services go on serving.

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet, MethodDescriptorProto};
use tests::failure::{Failure, TestResult, ensure};
use tests::ids::fresh;
use tests::world::World;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// The codes that arbitrary bytes may be answered with.
const ANSWERS: [Code; 9] = [
    Code::Ok,
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::PermissionDenied,
    Code::ResourceExhausted,
];

/// How many levels of nested messages a seed request fills.
const DEPTH: usize = 3;

/// An RPC with one answer, and a request for it in which every field is set.
struct Rpc {
    path: String,
    of_engine: bool,
    seed: Vec<u8>,
}

#[test]
fn fuzz_requests_of_any_bytes_are_answered() -> TestResult<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (mut world, domain_id) = runtime.block_on(World::furnished())?;
    let rpcs = rpcs(&domain_id)?;
    ensure(rpcs.len() > 30, || format!("only {} RPCs", rpcs.len()))?;
    let seeds = rpcs.iter().enumerate().map(|(n, rpc)| {
        let number = u8::try_from(n).unwrap_or_default();
        [&[number], rpc.seed.as_slice()].concat()
    });
    fuzz::fuzz("requests", seeds, |input| {
        let (number, body) = input.split_first().unwrap_or((&0, &[]));
        let rpc = &rpcs[usize::from(*number) % rpcs.len()];
        let channel = match rpc.of_engine {
            true => world.client.channel.clone(),
            false => world.host_client.channel.clone(),
        };
        let code = match runtime.block_on(call(channel, &rpc.path, body.to_vec())) {
            Ok(()) => Code::Ok,
            Err(status) => status.code(),
        };
        assert!(ANSWERS.contains(&code), "{}: {code:?}", rpc.path);
    });
    runtime.block_on(async {
        for service in [&mut world.engine, &mut world.host] {
            ensure(!service.has_ended(), || service.log_tail(20))?;
        }
        Ok(())
    })
}

async fn call(channel: Channel, path: &str, body: Vec<u8>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = path.parse().map_err(|_| Status::internal("no path"))?;
    client.unary(Request::new(body), path, Raw).await.map(drop)
}

/// Messages as raw bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use tonic::codegen::Bytes;
        bytes::BufMut::put(out, Bytes::from(item));
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        bytes::Buf::advance(bytes, bytes::Buf::remaining(bytes));
        Ok(Some(()))
    }
}

/// Every RPC with one request message and one answer.
fn rpcs(domain_id: &str) -> TestResult<Vec<Rpc>> {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).map_err(Failure::new)?;
    let mut found = Vec::new();
    for file in &set.file {
        let of_engine = match file.package() {
            "vdsm_engine.engine.v1" => true,
            "vdsm_engine.host.v1" => false,
            _ => continue,
        };
        for service in &file.service {
            for method in service.method.iter().filter(|method| answers_once(method)) {
                found.push(Rpc {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    of_engine,
                    seed: sample(&set, method.input_type(), domain_id, DEPTH),
                });
            }
        }
    }
    Ok(found)
}

/// Excludes RPCs that wait: their requests say for how long the call is held open.
fn answers_once(method: &MethodDescriptorProto) -> bool {
    !method.server_streaming() && !method.client_streaming() && !method.name().starts_with("Wait")
}

/// A message in which every field is set, with ids of the world if one fits.
fn sample(set: &FileDescriptorSet, full_name: &str, domain_id: &str, depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in message(set, full_name)
        .into_iter()
        .flat_map(|message| message.field)
    {
        let number = u32::try_from(field.number()).unwrap_or_default();
        let text = match field.name() {
            "domain_id" => domain_id.to_owned(),
            name if name.ends_with("_id") => fresh(),
            "address" => "127.0.0.1:1".to_owned(),
            _ => "a".to_owned(),
        };
        let payload = match field.r#type() {
            Type::String | Type::Bytes => text.into_bytes(),
            Type::Message if depth > 0 => sample(set, field.type_name(), domain_id, depth - 1),
            Type::Message | Type::Group | Type::Float | Type::Double => continue,
            Type::Fixed64 | Type::Sfixed64 | Type::Fixed32 | Type::Sfixed32 => continue,
            _ if field.label() == Label::Repeated => continue,
            _ => {
                prost::encoding::encode_key(number, prost::encoding::WireType::Varint, &mut bytes);
                prost::encoding::encode_varint(1, &mut bytes);
                continue;
            }
        };
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut bytes);
        prost::encoding::encode_varint(payload.len() as u64, &mut bytes);
        bytes.extend(payload);
    }
    bytes
}

fn message(set: &FileDescriptorSet, full_name: &str) -> Option<DescriptorProto> {
    let found = set.file.iter().find_map(|file| {
        let name = full_name.strip_prefix(&format!(".{}.", file.package()))?;
        let mut within = &file.message_type;
        let mut found = None;
        for part in name.split('.') {
            let next = within.iter().find(|message| message.name() == part)?;
            within = &next.nested_type;
            found = Some(next);
        }
        found
    });
    found.cloned()
}
