//! The meaning of a host's refusal. Programs decide by the fault's code, never by the status alone; a status without
//! a fault of ours is no answer at all.

use std::error::Error as _;

use common::fault::{Fault, FaultCode, FaultKind};
use runtime::causes::causes;
use runtime::status;
use tonic::{Code, Status};

/// The meaning of a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The connection is gone or useless: connect again.
    Lost(Fault),
    /// The host belongs to another engine now, or takes this engine for another one.
    Owned(Fault),
    /// The host belongs to another life of this engine.
    Fenced(Fault),
    /// Another start of this engine is connected to the host, which says within a bounded time whose it is.
    PutOff(Fault),
    /// The host is full for now: wait, however often.
    Full(Fault),
    /// The refusal says nothing about the question: ask again.
    Unclear(Fault),
    /// An answer: asking again changes nothing.
    Answer(Fault),
    /// An answer that is marked final: the host will never run this task as it was sent.
    Final(Fault),
}

impl Refusal {
    /// Reads the status with which a call or a stream ended.
    pub(super) fn of(status: &Status) -> Self {
        let Some((fault, final_verdict)) = status::fault_of(status) else {
            let fault = away(status);
            return if broken(status) {
                Self::Lost(fault)
            } else {
                Self::Unclear(fault)
            };
        };
        match fault.code {
            _ if final_verdict => Self::Final(fault),
            FaultCode::EngineFenced => Self::Fenced(fault),
            // The host takes this engine for another one: the engine has that one's certificate.
            FaultCode::HostOwned | FaultCode::NotPermitted => Self::Owned(fault),
            FaultCode::EngineStillConnected => Self::PutOff(fault),
            FaultCode::HostStoreChanged | FaultCode::Loading | FaultCode::ShuttingDown => Self::Lost(fault),
            FaultCode::QueueFull | FaultCode::StoreFull => Self::Full(fault),
            code if code.kind() == FaultKind::Unavailable => Self::Unclear(fault),
            // The refusal comes from below the handlers: nothing was done, or nobody knows.
            FaultCode::TooManyRequests
            | FaultCode::TooManyConnections
            | FaultCode::DeadlineExceeded
            | FaultCode::MethodUnknown => Self::Unclear(fault),
            FaultCode::EntityBusy => Self::Unclear(fault),
            _ => Self::Answer(fault),
        }
    }
}

/// A failure of the transport as a fault.
pub(super) fn away(status: &Status) -> Fault {
    let mut words: Vec<String> = Vec::new();
    let said = status.message().to_owned();
    let below = status.source().map(causes).unwrap_or_default();
    words.extend([said, below].into_iter().filter(|text| !text.is_empty()));
    // If nobody gives a reason, the kind of failure is still named.
    if words.is_empty() {
        words.push(status.code().description().to_owned());
    }
    Fault::new(
        FaultCode::HostAway,
        format!("the host does not answer: {}", words.join(": ")),
    )
}

/// Whether the connection is broken: an unanswered ping arrives as `Unknown`, a broken connection with the
/// transport's error as its source.
fn broken(status: &Status) -> bool {
    status.source().is_some() || matches!(status.code(), Code::Unknown | Code::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_a_fault_is_no_answer() {
        for status in [
            Status::unavailable("x"),
            Status::internal("x"),
            Status::invalid_argument("x"),
        ] {
            assert!(matches!(Refusal::of(&status), Refusal::Unclear(_)), "{status}");
        }
        assert!(matches!(
            Refusal::of(&Status::unknown("h2 protocol error")),
            Refusal::Lost(_)
        ));
    }

    #[test]
    fn why_a_host_is_away_is_said_even_where_nobody_says_why() {
        for code in [tonic::Code::Unavailable, tonic::Code::Unknown] {
            let words = away(&Status::new(code, "")).message;
            assert_eq!(words, format!("the host does not answer: {}", code.description()));
        }
    }

    #[test]
    fn the_code_of_the_fault_decides() {
        let of = |code| Refusal::of(&status::from_fault(&Fault::new(code, "x")));
        assert!(matches!(of(FaultCode::EngineFenced), Refusal::Fenced(_)));
        assert!(matches!(of(FaultCode::HostOwned), Refusal::Owned(_)));
        assert!(matches!(of(FaultCode::NotPermitted), Refusal::Owned(_)));
        assert!(matches!(of(FaultCode::EngineStillConnected), Refusal::PutOff(_)));
        assert!(matches!(of(FaultCode::HostStoreChanged), Refusal::Lost(_)));
        assert!(matches!(of(FaultCode::QueueFull), Refusal::Full(_)));
        assert!(matches!(of(FaultCode::StoreFull), Refusal::Full(_)));
        assert!(matches!(of(FaultCode::StoreUnavailable), Refusal::Unclear(_)));
        assert!(matches!(of(FaultCode::TooManyRequests), Refusal::Unclear(_)));
        assert!(matches!(of(FaultCode::DeadlineExceeded), Refusal::Unclear(_)));
        assert!(matches!(of(FaultCode::TaskNotAbortable), Refusal::Answer(_)));
    }
}
