//! Converts faults to gRPC statuses and back. The only place that maps the kind of a fault to a code.
//!
//! Every failure carries, in its details: `google.rpc.ErrorInfo` with the stable code as its reason, `BadRequest`
//! where a field is wrong, `RetryInfo` where a repeat may help, and our own `vdsm_engine.task.v1.Fault`, which
//! programs decide by.

use common::fault::{Fault, FaultCode, FaultKind};
use prost::Message as _;
use prost::bytes::Bytes;
use prost_types::Any;
use proto::convert;
use proto::task::v1 as wire;
use store::{Store, StoreError};
use tonic::{Code, Status};
use tonic_types::pb;

use crate::coordinator::Refusal;

/// `ErrorInfo.domain`: whose reasons these are.
const DOMAIN: &str = "vdsm-engine";

/// What `RetryInfo` asks for: long enough for a service to open its store again, short enough for a person.
const RETRY_AFTER_SECONDS: i64 = 1;

const FAULT_TYPE: &str = "type.googleapis.com/vdsm_engine.task.v1.Fault";
const HISTORY_RANGE_TYPE: &str = "type.googleapis.com/vdsm_engine.task.v1.HistoryRange";

/// The gRPC code of a kind of fault.
pub const fn code(kind: FaultKind) -> Code {
    match kind {
        FaultKind::InvalidArgument => Code::InvalidArgument,
        FaultKind::NotFound => Code::NotFound,
        FaultKind::AlreadyExists => Code::AlreadyExists,
        FaultKind::FailedPrecondition => Code::FailedPrecondition,
        FaultKind::Aborted => Code::Aborted,
        FaultKind::Unavailable => Code::Unavailable,
        FaultKind::ResourceExhausted => Code::ResourceExhausted,
        FaultKind::OutOfRange => Code::OutOfRange,
        FaultKind::PermissionDenied => Code::PermissionDenied,
        FaultKind::Cancelled => Code::Cancelled,
        FaultKind::Unimplemented => Code::Unimplemented,
        FaultKind::DeadlineExceeded => Code::DeadlineExceeded,
        FaultKind::Internal => Code::Internal,
    }
}

/// The status of a refused call.
pub fn from_fault(fault: &Fault) -> Status {
    build(fault, false, None)
}

/// The status of a `StartTask` that this host will never run as it was sent.
pub fn final_verdict(fault: &Fault) -> Status {
    build(fault, true, None)
}

/// The fault that a peer's status carries, and whether it is a final verdict; none where the status came from
/// somewhere else (the transport, a proxy) and says nothing.
pub fn fault_of(status: &Status) -> Option<(Fault, bool)> {
    let details = pb::Status::decode(status.details()).ok()?.details;
    let any = details.iter().find(|any| any.type_url == FAULT_TYPE)?;
    let fault = wire::Fault::decode(any.value.as_slice()).ok()?;
    Some((convert::fault_from_wire(&fault), fault.final_verdict))
}

/// The status for an input that the coordinator did not answer.
pub fn from_refusal(refusal: Refusal) -> Status {
    from_fault(&match refusal {
        Refusal::StoreUnavailable => store_unavailable(),
        Refusal::StoreLost(words) => Fault::new(
            FaultCode::StoreUnavailable,
            format!("{words}. Whether the request took effect is unknown: repeat it then"),
        ),
        Refusal::Stopping => shutting_down(),
    })
}

/// Whether the store can keep new work, and has room for it. To be asked before work is taken, never before what ends
/// some.
///
/// # Errors
/// `UNAVAILABLE` (`STORE_UNAVAILABLE` where its data directory is lost, `STORE_FULL`).
// A Status is what every RPC answers with, as tonic declares it.
#[allow(clippy::result_large_err)]
pub fn admit(store: &dyn Store) -> Result<(), Status> {
    if let Err(error) = store.trouble() {
        return Err(from_fault(&Fault::new(
            FaultCode::StoreUnavailable,
            format!("{error}. Nothing was changed"),
        )));
    }
    if store.has_room() {
        return Ok(());
    }
    Err(from_fault(&Fault::new(
        FaultCode::StoreFull,
        "the disk of the service's data directory is full: no new work is accepted, and nothing was changed; free space there, then repeat the request",
    )))
}

/// The status for a read that the store refused. What exactly it said is for the log, not for callers.
pub fn from_store(error: StoreError) -> Status {
    if !matches!(error, StoreError::Unwanted) {
        tracing::error!(%error, "a read from the store failed");
    }
    from_fault(&match error {
        StoreError::Unwanted => Fault::new(
            FaultCode::DeadlineExceeded,
            "the request was abandoned before it was answered; repeat it",
        ),
        StoreError::Unavailable(_) => Fault::new(
            FaultCode::StoreUnavailable,
            "the service cannot read its store now; try again, and check its log and its disk",
        ),
        StoreError::Damaged(_) | StoreError::Backup(_) => Fault::new(
            FaultCode::Internal,
            "the service's store has a record that cannot be read; see its log",
        ),
    })
}

/// The fault of a service that stops.
pub(crate) fn shutting_down() -> Fault {
    Fault::new(
        FaultCode::ShuttingDown,
        "the service is stopping; try again in a moment",
    )
}

fn store_unavailable() -> Fault {
    Fault::new(
        FaultCode::StoreUnavailable,
        "the service cannot write to its store now; whether the request took effect is unknown: repeat it",
    )
}

pub(crate) fn with_history_range(fault: &Fault, range: &wire::HistoryRange) -> Status {
    build(fault, false, Some(range))
}

fn build(fault: &Fault, final_verdict: bool, range: Option<&wire::HistoryRange>) -> Status {
    let code = code(fault.code.kind());
    let carried = wire::Fault {
        final_verdict,
        ..convert::fault_to_wire(fault)
    };
    let mut details = vec![
        any(
            "type.googleapis.com/google.rpc.ErrorInfo",
            &pb::ErrorInfo {
                reason: fault.code_text().to_owned(),
                domain: DOMAIN.to_owned(),
                metadata: Default::default(),
            },
        ),
        any(FAULT_TYPE, &carried),
    ];
    if fault.code.kind() == FaultKind::InvalidArgument && !fault.subject.is_empty() {
        details.push(any(
            "type.googleapis.com/google.rpc.BadRequest",
            &bad_request(fault),
        ));
    }
    if fault.code.repeat_may_help() {
        let retry_delay = Some(prost_types::Duration {
            seconds: RETRY_AFTER_SECONDS,
            nanos: 0,
        });
        let info = pb::RetryInfo { retry_delay };
        details.push(any("type.googleapis.com/google.rpc.RetryInfo", &info));
    }
    details.extend(range.map(|range| any(HISTORY_RANGE_TYPE, range)));
    let message = fault.message.to_string();
    let status = pb::Status {
        code: code.into(),
        message: message.clone(),
        details,
    };
    Status::with_details(code, message, Bytes::from(status.encode_to_vec()))
}

fn bad_request(fault: &Fault) -> pb::BadRequest {
    pb::BadRequest {
        field_violations: vec![pb::bad_request::FieldViolation {
            field: fault.subject.to_string(),
            description: fault.message.to_string(),
            reason: fault.code_text().to_owned(),
            ..Default::default()
        }],
    }
}

fn any(type_url: &str, message: &impl prost::Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn every_fault_survives_the_wire() {
        for code in FaultCode::ALL {
            let fault = Fault::new(*code, "do this").about("request.field");
            for (status, final_verdict) in [(from_fault(&fault), false), (super::final_verdict(&fault), true)]
            {
                assert_eq!(fault_of(&status), Some((fault.clone(), final_verdict)), "{code}");
                assert_eq!(status.message(), "do this");
                let details = status.get_error_details();
                assert_eq!(details.error_info().unwrap().reason, code.as_str());
                assert_eq!(details.error_info().unwrap().domain, "vdsm-engine");
                assert_eq!(details.retry_info().is_some(), code.repeat_may_help());
            }
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        let status = from_fault(&Fault::invalid("filter.task_ids[0]", "is empty"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "filter.task_ids[0]");
        assert_eq!(violations[0].description, "filter.task_ids[0] is empty");
    }

    #[test]
    fn a_status_of_the_transport_is_no_verdict() {
        assert_eq!(fault_of(&Status::unavailable("connection reset")), None);
        let garbage = Status::with_details(Code::NotFound, "?", Bytes::from_static(b"\xff\xff"));
        assert_eq!(fault_of(&garbage), None);
    }

    #[test]
    fn a_refused_input_may_be_repeated() {
        for refusal in [Refusal::StoreUnavailable, Refusal::Stopping] {
            assert_eq!(from_refusal(refusal).code(), Code::Unavailable);
        }
    }
}
