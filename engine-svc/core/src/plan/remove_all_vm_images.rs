//! Removes the disks of a VM, all at once. Ends when all of them have ended, whatever became of the others.

use common::id::{DiskId, VmId};
use common::{Fault, FaultCode};

use super::next::{child_failed, children_awaited};
use super::{End, Next, Part, remove_image};
use crate::model::{Command, CommandState, EntityKey, Parameters};
use crate::plan::remove_image::RemoveImage;
use crate::state::State;

/// See [`crate::model::Parameters::RemoveAllVmImages`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveAllVmImages {
    /// Whose.
    pub vm_id: VmId,
    /// As they were when the command was accepted.
    pub disk_ids: Vec<DiskId>,
}

/// One child a disk. A disk whose host is not known cannot be planned.
pub(super) fn parts(state: &State, wanted: &RemoveAllVmImages) -> Vec<Part> {
    let images = wanted.disk_ids.iter();
    let images = images.filter_map(|id| RemoveImage::of(state, *id, Some(wanted.vm_id)));
    let part = |(at, image): (usize, RemoveImage)| Part {
        place: format!("disk/{at}"),
        task: Some(remove_image::delete(&image)),
        parameters: Parameters::RemoveImage(image),
        children: Vec::new(),
    };
    images.enumerate().map(part).collect()
}

pub(super) fn next(state: &State, command: &Command, p: &RemoveAllVmImages) -> Next {
    let family = state.family(command.id);
    if !family.open.is_empty() {
        return children_awaited(state, command);
    }
    if !family.broken() {
        return End::succeeded(Vec::new());
    }
    if family.succeeded == 0 {
        // Nothing has changed: every disk is where it was.
        let fault = child_failed(state, command);
        // A part that failed by itself was not stopped, whatever was wished besides.
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
    let left: Vec<EntityKey> = stayed(state, command);
    let message = format!(
        "{} of {} disks are gone and cannot come back; {} stay",
        family.succeeded,
        p.disk_ids.len(),
        left.len()
    );
    let fault =
        child_failed(state, command).map_or(message.clone(), |first| format!("{message}: {}", first.message));
    Next::End(Box::new(End {
        state: CommandState::Failed,
        fault: Some(Fault::new(FaultCode::ChildFailed, fault).about(EntityKey::Vm(p.vm_id))),
        left_behind: left,
        inventory: Vec::new(),
    }))
}

fn stayed(state: &State, command: &Command) -> Vec<EntityKey> {
    let children = command.children.iter().filter_map(|id| state.command(*id));
    let stayed = children.filter(|child| child.state != CommandState::Succeeded);
    stayed.map(|child| child.parameters.entity()).collect()
}
