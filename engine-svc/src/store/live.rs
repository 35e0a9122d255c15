//! Reads the live records: the trees that are part of the working state, and the foreign tasks.

use common::id::CommandId;
use proto::store::v1::AsyncTaskRecord;
use store::{Reader, StoreError};

use super::command::COMMANDS;
use super::scan::Scan;
use super::task::TASKS;
use super::tree::Tree;

/// The number of roots, or tasks, that are read at a time.
const PIECE: usize = 1_000;

/// A piece of the live trees, in the order of their roots, after the key `after`.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub(crate) fn trees(
    reader: &dyn Reader,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<(Vec<Tree>, Option<Vec<u8>>), StoreError> {
    let scan = COMMANDS.live(reader, after, limit)?;
    let mut trees = Vec::with_capacity(scan.found.len());
    for (_, record) in scan.found {
        let root = record
            .command
            .and_then(|command| command.command_id.parse::<CommandId>().ok());
        if let Some(root) = root {
            trees.push(Tree::read(reader, root)?);
        }
    }
    Ok((trees, scan.next))
}

/// A piece of the live foreign tasks, after the key `after`.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub(crate) fn foreign_tasks(
    reader: &dyn Reader,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Scan<AsyncTaskRecord>, StoreError> {
    TASKS.live(reader, after, limit)
}

/// Every live tree.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub(crate) fn each_tree(reader: &dyn Reader, mut visit: impl FnMut(Tree)) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let (trees, next) = trees(reader, after.as_deref(), PIECE)?;
        trees.into_iter().for_each(&mut visit);
        after = next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Every live foreign task, with its key.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub(crate) fn each_foreign_task(
    reader: &dyn Reader,
    mut visit: impl FnMut(Vec<u8>, AsyncTaskRecord),
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let scan = foreign_tasks(reader, after.as_deref(), PIECE)?;
        for (key, record) in scan.found {
            visit(key, record);
        }
        after = scan.next;
        if after.is_none() {
            return Ok(());
        }
    }
}
