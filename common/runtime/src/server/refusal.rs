//! Refusals that are made below the handlers, by the transport's own code: each gets a fault, and the status that the
//! contract has for it.

use common::fault::{Fault, FaultCode};
use http::HeaderMap;
use tonic::{Code, Status};

use crate::status;

/// What the transport says, by how it begins, and what it means here. Without words of ours its own are told.
const KNOWN: [(Code, &str, FaultCode, &str); 10] = [
    (
        Code::OutOfRange,
        "Error, decoded message length too large",
        FaultCode::MessageTooLarge,
        "the request is larger than the 256 KiB that a message may have: send less at once",
    ),
    (
        Code::OutOfRange,
        "Error, encoded message length too large",
        FaultCode::MessageTooLarge,
        "the answer is larger than a message may be: ask for smaller pages",
    ),
    (
        Code::ResourceExhausted,
        "Error decompressing: size limit",
        FaultCode::MessageTooLarge,
        "the request is larger than the 256 KiB that a message may have once it is decompressed: send less at once",
    ),
    (
        Code::Internal,
        "Error decompressing",
        FaultCode::InvalidArgument,
        "the request cannot be decompressed: it does not match its grpc-encoding",
    ),
    (
        Code::Internal,
        "failed to decode Protobuf message",
        FaultCode::InvalidArgument,
        "",
    ),
    (
        Code::Internal,
        "protocol error: received message with",
        FaultCode::InvalidArgument,
        "",
    ),
    (
        Code::Internal,
        "Unexpected EOF decoding stream",
        FaultCode::InvalidArgument,
        "the request ends in the middle of its message",
    ),
    (
        Code::Internal,
        "Missing request message",
        FaultCode::InvalidArgument,
        "the request has no message: send one, even if it is empty",
    ),
    (
        Code::Unimplemented,
        "Content is compressed with",
        FaultCode::CompressionUnsupported,
        "the request uses an unsupported compression: send it with gzip, or uncompressed",
    ),
    (
        Code::Cancelled,
        "Timeout expired",
        FaultCode::DeadlineExceeded,
        "the request was not answered before its deadline",
    ),
];

/// The fault that a status of the transport stands for.
fn fault(status: &Status) -> Fault {
    let message = status.message();
    let known = KNOWN
        .iter()
        .find(|(code, begins, ..)| *code == status.code() && message.starts_with(begins));
    if let Some((_, _, code, words)) = known {
        return Fault::new(*code, if words.is_empty() { message } else { words });
    }
    let code = match status.code() {
        Code::InvalidArgument => FaultCode::InvalidArgument,
        Code::NotFound => FaultCode::EntityNotFound,
        Code::ResourceExhausted => FaultCode::TooManyRequests,
        Code::DeadlineExceeded => FaultCode::DeadlineExceeded,
        Code::Unimplemented => FaultCode::MethodUnknown,
        Code::Unavailable => FaultCode::ShuttingDown,
        Code::Cancelled => FaultCode::Aborted,
        Code::PermissionDenied | Code::Unauthenticated => FaultCode::NotPermitted,
        Code::AlreadyExists => FaultCode::EntityExists,
        Code::FailedPrecondition => FaultCode::EntityInUse,
        Code::Aborted => FaultCode::EntityBusy,
        // Out of range are tokens, and nothing else.
        Code::OutOfRange | Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => FaultCode::Internal,
    };
    Fault::new(code, message)
}

/// Gives what ends a call, headers or trailers, a fault where it has none, and says which it is; none where it
/// does not end with a failure.
pub(super) fn with_fault(ending: &mut HeaderMap) -> Option<Fault> {
    let status = Status::from_header_map(ending)?;
    if status.code() == Code::Ok {
        return None;
    }
    if !status.details().is_empty() {
        return status::fault_of(&status).map(|(fault, _)| fault);
    }
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        ending.remove(name);
    }
    let fault = fault(&status);
    // What it says in metadata besides stays. A status of ours has nothing that a header cannot.
    let _ = status::from_fault(&fault).add_header(ending);
    Some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(status: &Status) -> Status {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        with_fault(&mut headers);
        Status::from_header_map(&headers).unwrap()
    }

    #[test]
    fn whatever_the_transport_says_gets_a_fault_and_never_means_a_token() {
        for code in (0..17).map(Code::from).filter(|code| *code != Code::Ok) {
            let status = rewritten(&Status::new(code, "words of its own"));
            let (fault, _) = status::fault_of(&status).unwrap_or_else(|| panic!("{code:?} has no fault"));
            assert_eq!(fault.message, "words of its own");
            assert_eq!(status.code(), status::code(fault.code.kind()));
            assert_ne!(status.code(), Code::OutOfRange);
        }
        for (code, begins, expected, _) in KNOWN {
            let status = rewritten(&Status::new(code, format!("{begins}: 7")));
            assert_eq!(status::fault_of(&status).unwrap().0.code, expected);
        }
    }

    #[test]
    fn what_has_a_fault_stays_as_it_is() {
        let ours = status::from_fault(&Fault::new(FaultCode::TokenOutOfRange, "too old"));
        let kept = rewritten(&ours);
        assert_eq!((kept.code(), kept.details()), (ours.code(), ours.details()));
        let mut fine = HeaderMap::new();
        fine.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("0"));
        with_fault(&mut fine);
        assert_eq!(fine.len(), 1);
    }
}
