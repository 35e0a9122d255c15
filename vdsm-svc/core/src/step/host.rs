//! ClaimHost and ReleaseHost.

use super::Draft;
use crate::change::{Answer, Change, Reply};
use crate::input::{Caller, EngineCall};
use crate::owner::{self, Owner};

impl Draft<'_> {
    pub(super) fn claim(&mut self, call: &EngineCall) -> Reply {
        let fresh = owner::claim(self.state.owner(), self.state.store_id, call)?;
        if let Some(owner) = fresh {
            self.change(Change::Owner(owner));
        }
        Ok(Answer::Owner(self.owner()))
    }

    pub(super) fn release(&mut self, caller: Caller) -> Reply {
        let Some(owner) = self.owner() else {
            return Ok(Answer::Owner(None));
        };
        self.admit(&caller)?;
        let epoch = self.owner().map_or(owner.epoch, |newest| newest.epoch);
        self.change(Change::Owner(Owner {
            epoch,
            released: true,
            ..owner
        }));
        Ok(Answer::Owner(None))
    }

    fn owner(&self) -> Option<Owner> {
        self.state.owner().copied().filter(|owner| !owner.released)
    }
}
