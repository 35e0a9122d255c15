//! ClaimHost and ReleaseHost.

use super::Tx;
use crate::change::{Answer, Change, Refusal, Reply};
use crate::input::{Caller, Claim};
use crate::owner::{self, Owner};

impl Tx<'_> {
    pub(super) fn claim(&mut self, claim: &Claim) -> Reply {
        let claimed = owner::claim(self.state.owner(), self.state.store_id, claim, self.now)?;
        if let Some(owner) = claimed.owner {
            self.change(Change::Owner(owner));
        }
        match claimed.refusal {
            Some(fault) => Err(Refusal::Fault(fault)),
            None => Ok(Answer::Owner(self.owner())),
        }
    }

    pub(super) fn release(&mut self, caller: Caller) -> Reply {
        if self.owner().is_none() {
            return Ok(Answer::Owner(None));
        }
        self.admit(&caller)?;
        if let Some(owner) = self.owner() {
            self.change(Change::Owner(Owner {
                released: true,
                ..owner
            }));
        }
        Ok(Answer::Owner(None))
    }

    fn owner(&self) -> Option<Owner> {
        self.state.owner().cloned().filter(|owner| !owner.released)
    }
}
