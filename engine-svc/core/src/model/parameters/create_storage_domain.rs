//! What CreateStorageDomain needs.

use common::id::{DomainId, HostId};

use super::{CommandParameters, Requested};
use crate::model::EntityKey;

/// Creates a storage domain on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateStorageDomain {
    /// Its id: the caller's, or made by the shell.
    pub domain_id: DomainId,
    /// For people; storage keeps the first 50 characters.
    pub name: String,
    /// The host that will serve it.
    pub host_id: HostId,
}

impl Requested for CreateStorageDomain {
    type Request = Self;

    fn request(&self) -> Self {
        self.clone()
    }
}

impl CommandParameters for CreateStorageDomain {
    fn entity(&self) -> EntityKey {
        EntityKey::Domain(self.domain_id)
    }

    fn describe(&self) -> String {
        format!("Creating storage domain {}", self.name)
    }

    fn makes(&self) -> bool {
        true
    }

    fn text_bytes(&self) -> usize {
        self.name.len()
    }

    fn called_host(&self) -> Option<HostId> {
        Some(self.host_id)
    }
}
