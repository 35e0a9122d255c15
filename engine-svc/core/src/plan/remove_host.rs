//! Gives a host up.

use common::id::HostId;

/// See [`crate::model::Parameters::RemoveHost`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveHost {
    /// Which.
    pub host_id: HostId,
}
