//! A restart decides nothing that the records do not say already. The hosts are followed again, and each command's
//! verb is asked what is next, as it would have been without the restart.

use std::collections::BTreeSet;

use common::id::CommandId;

use super::tx::Tx;
use crate::change::Change;
use crate::effect::Effect;
use crate::model::CommandState;

impl Tx<'_> {
    /// Nothing is decided about the trees in `left_out`.
    pub(super) fn recover(&mut self, left_out: &BTreeSet<CommandId>) {
        let hosts: Vec<Effect> = self.hosts_to_follow();
        self.effects(hosts);
        let roots = self.state.roots().into_iter();
        for root in roots.filter(|root| !left_out.contains(root)) {
            let Some(command) = self.state.command(root).cloned() else {
                continue;
            };
            if command.state.is_terminal() {
                // Only the first revisions of this end were recorded.
                self.release_tasks(&command);
            } else {
                for part in self.state.tree_of(root).into_iter().rev() {
                    self.decide(part);
                }
            }
        }
    }

    pub(super) fn hosts_to_follow(&self) -> Vec<Effect> {
        let ours = self.state.hosts().map(|host| Effect::Follow {
            host_id: host.id,
            address: host.address.clone(),
            identity: host.identity.clone(),
        });
        let live = self
            .state
            .commands()
            .filter(|command| !command.state.is_terminal() && command.state != CommandState::Pending);
        let wanted = live.filter_map(|command| self.state.follows(command));
        ours.chain(wanted).collect()
    }

    pub(super) fn forget(&mut self, ids: Vec<CommandId>) {
        for id in ids {
            if self.state.command(id).is_none() {
                self.put(Change::CommandRemoved(id));
            }
        }
    }
}
