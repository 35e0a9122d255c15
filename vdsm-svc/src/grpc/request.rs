//! What several RPCs read the same way. What is wrong is answered with a status that names it.

use std::str::FromStr;

use common::fault::Fault;
use common::id::IdError;
use proto::convert;
use runtime::metadata::Caller;
use runtime::status;
use tonic::{Request, Status};

/// A fault as an RPC answers with it.
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

/// Who calls.
pub(super) fn who<T>(request: &Request<T>) -> Result<Caller, Status> {
    Caller::of(request).or_refuse()
}

/// A typed id that must be set.
pub(super) fn id<T: FromStr<Err = IdError>>(field: &str, text: &str) -> Result<T, Status> {
    convert::id(field, text).or_refuse()
}
