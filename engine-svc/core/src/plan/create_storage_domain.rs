//! Creates a storage domain on a host.

use common::id::{DomainId, HostId};

/// See [`crate::model::Parameters::CreateStorageDomain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateStorageDomain {
    /// Its id: the caller's, or made by the shell.
    pub domain_id: DomainId,
    /// For people; storage keeps the first 50 characters.
    pub name: String,
    /// The host that will serve it.
    pub host_id: HostId,
}
