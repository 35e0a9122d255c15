//! What TakeOverHost needs.

use common::id::HostId;

use super::{CommandParameters, Requested};
use crate::model::EntityKey;

/// Takes a host over, whoever has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOverHost {
    /// The id that the host was configured with.
    pub host_id: HostId,
    /// For people; empty for a host that this engine has recorded.
    pub name: String,
    /// `host:port`; empty for a host that this engine has recorded.
    pub address: String,
    /// As for [`super::AddHost`]; empty for a host that this engine has recorded.
    pub identity: String,
    /// Why, for the records of both.
    pub reason: String,
}

impl Requested for TakeOverHost {
    type Request = Self;

    fn request(&self) -> Self {
        self.clone()
    }
}

impl CommandParameters for TakeOverHost {
    fn entity(&self) -> EntityKey {
        EntityKey::Host(self.host_id)
    }

    fn describe(&self) -> String {
        format!("Taking over host {} ({})", self.host_id, self.reason)
    }

    fn makes(&self) -> bool {
        true
    }

    fn text_bytes(&self) -> usize {
        self.name.len() + self.address.len() + self.identity.len() + self.reason.len()
    }

    fn called_host(&self) -> Option<HostId> {
        Some(self.host_id)
    }

    fn takes_over(&self) -> bool {
        true
    }
}
