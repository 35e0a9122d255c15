//! Pages of a snapshot: first the unfinished items, tree by tree, then those that ended within the requested time.

use common::time::Timestamp;
use proto::engine::v1::{AsyncTask, Command};
use runtime::watch::Page;
use store::{Reader, StoreError};

use crate::store::tree::Tree;
use crate::store::{command, live, task};

/// The maximum number of records that one page looks at.
pub(super) const PAGE_RECORDS: usize = 256;

/// The maximum number of trees that one page looks at: each may have some two hundred records.
const PAGE_TREES: usize = 8;

/// The number of records of ended trees after which a page takes no further tree: most of these trees are small.
const TREE_RECORDS: usize = 1_000;

/// The parts of a snapshot, as the first byte of a page's key.
const TREES: u8 = 0;
const FOREIGN: u8 = 1;
const ENDED: u8 = 2;

/// A page of commands.
///
/// # Errors
/// [`StoreError`] if they cannot be read.
pub(super) fn commands(
    reader: &dyn Reader,
    after: Option<&[u8]>,
    since: Timestamp,
) -> Result<Page<Command>, StoreError> {
    let (part, key) = position(after);
    if part != ENDED {
        let (trees, next) = live::trees(reader, key, PAGE_TREES)?;
        let commands = trees.into_iter().flat_map(|tree| tree.commands);
        let shown = commands.filter_map(|(_, record)| record.command);
        return Ok(Page {
            items: shown.filter(command::is_open).collect(),
            next: Some(next.map_or_else(|| at(ENDED, &[]), |key| at(TREES, &key))),
        });
    }
    let scan = command::COMMANDS.ended_since(reader, since, key, PAGE_RECORDS)?;
    let shown = scan.found.into_iter().filter_map(|(_, record)| record.command);
    Ok(Page {
        items: shown.filter(|command| !command::is_open(command)).collect(),
        next: scan.next.map(|key| at(ENDED, &key)),
    })
}

/// A page of tasks.
///
/// # Errors
/// [`StoreError`] if they cannot be read.
pub(super) fn tasks(
    reader: &dyn Reader,
    after: Option<&[u8]>,
    since: Timestamp,
) -> Result<Page<AsyncTask>, StoreError> {
    let (part, key) = position(after);
    let (found, is_wanted, next): (Vec<_>, fn(&AsyncTask) -> bool, _) = match part {
        ENDED => {
            let scan = task::TASKS.ended_since(reader, since, key, PAGE_RECORDS)?;
            let found = scan.found.into_iter().map(|(_, record)| record);
            (
                found.collect(),
                |task| !task::is_open(task),
                scan.next.map(|key| at(ENDED, &key)),
            )
        }
        FOREIGN => {
            let scan = live::foreign_tasks(reader, key, PAGE_RECORDS)?;
            let found = scan.found.into_iter().map(|(_, record)| record);
            let next = scan.next.map_or_else(|| at(ENDED, &[]), |key| at(FOREIGN, &key));
            (found.collect(), task::is_open, Some(next))
        }
        _ => {
            let (trees, next) = live::trees(reader, key, PAGE_TREES)?;
            let found = trees
                .into_iter()
                .flat_map(|tree| tree.tasks)
                .map(|(_, record)| record);
            let next = next.map_or_else(|| at(FOREIGN, &[]), |key| at(TREES, &key));
            (found.collect(), task::is_open, Some(next))
        }
    };
    let shown = found.into_iter().filter_map(|record| record.task);
    Ok(Page {
        items: shown.filter(is_wanted).collect(),
        next,
    })
}

/// A page of whole trees: first those whose root is not over, then those whose root has ended.
///
/// # Errors
/// [`StoreError`] if they cannot be read.
pub(super) fn trees(
    reader: &dyn Reader,
    after: Option<&[u8]>,
    since: Timestamp,
) -> Result<Page<Tree>, StoreError> {
    let (part, key) = position(after);
    if part != ENDED {
        let (trees, next) = live::trees(reader, key, PAGE_TREES)?;
        let is_open = |tree: &Tree| {
            tree.root()
                .and_then(|root| root.command.as_ref())
                .is_some_and(command::is_open)
        };
        return Ok(Page {
            items: trees.into_iter().filter(is_open).collect(),
            next: Some(next.map_or_else(|| at(ENDED, &[]), |key| at(TREES, &key))),
        });
    }
    let scan = command::COMMANDS.ended_since(reader, since, key, PAGE_RECORDS)?;
    let (mut items, mut read) = (Vec::new(), 0);
    for (key, record) in scan.found {
        let root = record
            .command
            .filter(|command| command.parent_command_id.is_empty());
        if let Some(id) = root.and_then(|root| root.command_id.parse().ok()) {
            let tree = Tree::read(reader, id)?;
            read += tree.commands.len() + tree.tasks.len();
            items.push(tree);
        }
        if read >= TREE_RECORDS {
            let next = Some(at(ENDED, &key));
            return Ok(Page { items, next });
        }
    }
    Ok(Page {
        items,
        next: scan.next.map(|key| at(ENDED, &key)),
    })
}

/// The part and the key after which a page begins.
fn position(after: Option<&[u8]>) -> (u8, Option<&[u8]>) {
    match after.and_then(<[u8]>::split_first) {
        Some((part, key)) => (*part, Some(key).filter(|key| !key.is_empty())),
        None => (TREES, None),
    }
}

fn at(part: u8, key: &[u8]) -> Vec<u8> {
    [&[part], key].concat()
}
