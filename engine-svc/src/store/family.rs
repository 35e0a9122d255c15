//! Records that largely repeat each other. The root of a tree has the parameters of all its parts, and each part
//! repeats its own: without families, a command with 64 disks would be in the tables eight times over.

use prost::Message as _;
use proto::store::v1::{TreeOfCommand, TreeOfTask};
use store::Family;
use uuid::Uuid;

use super::command::COMMANDS;
use super::task::TASKS;

/// The tree that a record belongs to.
pub(crate) fn family_of(table: &str, value: &[u8]) -> Option<Family> {
    let (root, is_head) = if COMMANDS.is_of(table) {
        let command = TreeOfCommand::decode(value).ok()?.command?;
        (command.root_command_id, command.parent_command_id.is_empty())
    } else if TASKS.is_of(table) {
        (TreeOfTask::decode(value).ok()?.task?.root_command_id, false)
    } else {
        return None;
    };
    let id = root.parse::<Uuid>().ok()?.into_bytes();
    Some(Family { id, is_head })
}
