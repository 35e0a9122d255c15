//! Reading that several RPCs share. A wrong field is refused with a status that names it.

use std::str::FromStr;

use common::fault::Fault;
use common::id::IdError;
use proto::convert;
use runtime::metadata::Caller;
use runtime::status;
use tonic::{Request, Status};

/// Turns a fault into the status that an RPC answers with.
pub(super) trait OrRefuse<T> {
    /// # Errors
    /// The fault's status.
    fn or_refuse(self) -> Result<T, Status>;
}

impl<T> OrRefuse<T> for Result<T, Fault> {
    fn or_refuse(self) -> Result<T, Status> {
        self.map_err(|fault| status::from_fault(&fault))
    }
}

/// The caller.
pub(super) fn who<T>(request: &Request<T>) -> Result<Caller, Status> {
    Caller::of(request).or_refuse()
}

/// A required id.
pub(super) fn id<T: FromStr<Err = IdError>>(field: &str, text: &str) -> Result<T, Status> {
    convert::id(field, text).or_refuse()
}
