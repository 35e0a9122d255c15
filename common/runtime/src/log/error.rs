//! Why a point of the history cannot be read from.

use common::fault::{Fault, FaultCode};
use common::revision::Token;
use proto::task::v1 as wire;
use proto::task::v1::history_range::Problem;
use store::StoreError;
use tonic::Status;

use crate::status;

/// A point that is not in the history that is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; resume after {oldest} or later, or start with a snapshot", sentence(*.problem))]
pub struct OutOfRange {
    /// What is wrong with it.
    pub problem: Problem,
    /// The oldest point that can be resumed after.
    pub oldest: Token,
    /// The newest point.
    pub current: Token,
}

/// Why the history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The point is not in it.
    #[error(transparent)]
    OutOfRange(Box<OutOfRange>),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<OutOfRange> for Status {
    fn from(error: OutOfRange) -> Self {
        let range = wire::HistoryRange {
            problem: error.problem.into(),
            oldest_token: error.oldest.to_string(),
            current_token: error.current.to_string(),
        };
        let fault = Fault::new(FaultCode::TokenOutOfRange, error.to_string()).about("start.after");
        status::with_history_range(&fault, &range)
    }
}

impl From<ReadError> for Status {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::OutOfRange(error) => (*error).into(),
            ReadError::Store(error) => status::from_store(error),
        }
    }
}

fn sentence(problem: Problem) -> &'static str {
    match problem {
        Problem::Unspecified => "that point is not in this history",
        Problem::UnknownStore => "the token is of another data directory",
        Problem::UnknownStart => "the service never had that start on this data directory",
        Problem::PastStart => "that start of the service ended before that point",
        Problem::Future => "that point is in the future",
        Problem::TooOld => "the history no longer reaches back that far",
        Problem::Damaged => "a revision after that point is damaged; see the service's log",
    }
}
