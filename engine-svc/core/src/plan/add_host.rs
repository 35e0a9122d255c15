//! Takes a host for this engine.

use common::id::HostId;

/// See [`crate::model::Parameters::AddHost`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddHost {
    /// The id that the host was configured with.
    pub host_id: HostId,
    /// For people.
    pub name: String,
    /// `host:port`.
    pub address: String,
}
