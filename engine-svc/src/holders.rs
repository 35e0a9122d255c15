//! Who holds which entity, as committed: derived from the lock table, shown at each reading, and kept in no
//! record, so that nothing can stay behind.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use engine_core::model::{EntityKey, Holding};

/// The holders. Cheap to clone; all clones are one picture.
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

    /// Notes who holds what from now on.
    pub(crate) fn note(&self, changes: &[(EntityKey, Option<Holding>)]) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        for (key, holder) in changes {
            match holder {
                Some(holder) => held.insert(key.clone(), holder.clone()),
                None => held.remove(key),
            };
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
