//! What RemoveHost needs.

use common::id::HostId;

use super::{CommandParameters, Requested};
use crate::model::EntityKey;

/// Releases a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveHost {
    /// The host.
    pub host_id: HostId,
}

impl Requested for RemoveHost {
    type Request = Self;

    fn request(&self) -> Self {
        self.clone()
    }
}

impl CommandParameters for RemoveHost {
    fn entity(&self) -> EntityKey {
        EntityKey::Host(self.host_id)
    }

    fn describe(&self) -> String {
        format!("Removing host {}", self.host_id)
    }

    fn makes(&self) -> bool {
        false
    }

    fn text_bytes(&self) -> usize {
        0
    }

    fn called_host(&self) -> Option<HostId> {
        Some(self.host_id)
    }
}
