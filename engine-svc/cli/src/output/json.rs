//! Messages as the contract's JSON mapping has them, by the same descriptors that the services' reflection serves.

use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::Serializer;

use crate::failure::Failure;

/// A message that the contract names.
pub(crate) trait Described: prost::Message {
    /// Its full name.
    const NAME: &'static str;
}

macro_rules! described {
    ($($message:ident)*) => {
        $(impl Described for proto::engine::v1::$message {
            const NAME: &'static str = concat!("vdsm_engine.engine.v1.", stringify!($message));
        })*
        #[cfg(test)]
        const NAMES: &[&str] = &[$(<proto::engine::v1::$message as Described>::NAME),*];
    };
}

described! { AsyncTask Command Disk EngineInfo Event Host Job StorageDomain Vm GetVmResponse WhoAmIResponse }

fn pool() -> Result<&'static DescriptorPool, Failure> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(proto::DESCRIPTORS).map_err(|error| error.to_string()))
        .as_ref()
        .map_err(|error| Failure::Local(format!("the contract in this program cannot be read: {error}")))
}

/// Writes the message, its fields in the contract's order.
///
/// # Errors
/// What `serializer` says; and where the contract in this program does not have the message, which the tests rule out.
pub(super) fn write<M: Described, S: Serializer>(message: &M, serializer: S) -> Result<S::Ok, Failure> {
    let local = |error: &dyn std::fmt::Display| Failure::Local(format!("{}: {error}", M::NAME));
    let descriptor = pool()?
        .get_message_by_name(M::NAME)
        .ok_or_else(|| local(&"not in the contract"))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).map_err(|error| local(&error))?;
    dynamic
        .serialize_with_options(serializer, &SerializeOptions::new())
        .map_err(|error| local(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_printed_is_in_the_contract() {
        let pool = pool().unwrap();
        for name in NAMES {
            assert!(pool.get_message_by_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn json_is_the_contracts_own_mapping() {
        let job = proto::engine::v1::Job {
            job_id: "j".to_owned(),
            state: proto::engine::v1::CommandState::NeedsAttention as i32,
            total_bytes: 10 << 30,
            start_time: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 5_000_000,
            }),
            ..Default::default()
        };
        assert_eq!(
            write(&job, serde_json::value::Serializer).unwrap(),
            serde_json::json!({
                "jobId": "j",
                "state": "COMMAND_STATE_NEEDS_ATTENTION",
                "totalBytes": "10737418240",
                "startTime": "1970-01-01T00:00:00.005Z",
            })
        );
    }
}
