//! Who holds which entity, as committed: derived from the lock table and shown with each read. No record keeps it, so
//! no stale holder can stay behind.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use engine_core::model::{EntityKey, Holding};

/// The holders. Cheap to clone; all clones share one map.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    held: Arc<RwLock<BTreeMap<EntityKey, Holding>>>,
}

impl Holders {
    /// Who holds an entity, and how.
    pub(crate) fn holder(&self, key: &EntityKey) -> Option<Holding> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(key).cloned()
    }

    /// Records changes of holders.
    pub(crate) fn note(&self, changes: &[(EntityKey, Option<Holding>)]) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        for (key, holder) in changes {
            match holder {
                Some(holder) => held.insert(key.clone(), holder.clone()),
                None => held.remove(key),
            };
        }
    }

    /// Forgets all holders.
    pub(crate) fn clear(&self) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
