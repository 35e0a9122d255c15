//! Removes the disks of a VM, all at once. The command ends when all removals have ended, however each of them ended.

use common::{Fault, FaultCode, Timestamp};

use crate::model::{CommandParameters as _, CommandState, EntityKey, RemoveAllVmImages};
use crate::plan::at::At;
use crate::plan::next::{End, Next, child_failed, children_awaited};
use crate::plan::verb::CommandVerb;

impl CommandVerb for RemoveAllVmImages {
    fn next(&self, at: At<'_>, _now: Timestamp) -> Next {
        let family = at.state.family(at.command.id);
        if !family.open.is_empty() {
            return children_awaited(at);
        }
        if !family.broken() {
            return End::succeeded(Vec::new());
        }
        if family.succeeded == 0 {
            // Nothing has changed: every disk is where it was.
            let fault = child_failed(at);
            // A part that failed by itself was not stopped, even if somebody wanted it stopped.
            let stopped = family.failed == 0;
            return Next::End(Box::new(End {
                state: if stopped {
                    CommandState::Cancelled
                } else {
                    CommandState::Failed
                },
                fault,
                left_behind: Vec::new(),
                inventory: Vec::new(),
            }));
        }
        let left: Vec<EntityKey> = stayed(at);
        let message = format!(
            "{} of {} disks are deleted and cannot be restored; {} remain",
            family.succeeded,
            self.disk_ids.len(),
            left.len()
        );
        let fault = child_failed(at).map_or(message.clone(), |first| format!("{message}: {}", first.message));
        Next::End(Box::new(End {
            state: CommandState::Failed,
            fault: Some(Fault::new(FaultCode::ChildFailed, fault).about(EntityKey::Vm(self.vm_id))),
            left_behind: left,
            inventory: Vec::new(),
        }))
    }

    /// The parts name all leftovers.
    fn leftovers(&self, _at: At<'_>) -> Vec<EntityKey> {
        Vec::new()
    }
}

fn stayed(at: At<'_>) -> Vec<EntityKey> {
    let stayed = at
        .children()
        .filter(|child| child.state != CommandState::Succeeded);
    stayed.map(|child| child.parameters.entity()).collect()
}
