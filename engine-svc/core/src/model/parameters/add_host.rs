//! What AddHost needs.

use common::id::HostId;

use super::{CommandParameters, Requested};
use crate::model::EntityKey;

/// Adds a host to this engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddHost {
    /// The id that the host was configured with.
    pub host_id: HostId,
    /// A text for people.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// How its certificate names it: `host:UUID` or a DNS name; empty for the first with its id.
    pub identity: String,
}

impl Requested for AddHost {
    type Request = Self;

    fn request(&self) -> Self {
        self.clone()
    }
}

impl CommandParameters for AddHost {
    fn entity(&self) -> EntityKey {
        EntityKey::Host(self.host_id)
    }

    fn describe(&self) -> String {
        format!("Adding host {} at {}", self.name, self.address)
    }

    fn makes(&self) -> bool {
        true
    }

    fn text_bytes(&self) -> usize {
        self.name.len() + self.address.len() + self.identity.len()
    }

    fn called_host(&self) -> Option<HostId> {
        Some(self.host_id)
    }
}
