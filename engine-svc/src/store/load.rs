//! Reads the working state back: the live records, and no others.

use std::sync::Arc;

use common::id::EngineId;
use engine_core::model::{AsyncTask, Command};
use engine_core::state::Seed;
use engine_core::{Change, Limits};
use proto::store::v1::{AsyncTaskRecord, CommandRecord};
use store::{Reader, StoreError};

use super::codec::CodecError;
use super::command::{self, COMMANDS};
use super::disk::{self, DISKS};
use super::domain::{self, DOMAINS};
use super::host::{self, HOSTS};
use super::keyed::Keyed;
use super::task::{self, TASKS};
use super::tree::Tree;
use super::vm::{self, VMS};
use super::{event, key, live};

/// The number of records that are read at a time.
const PIECE: usize = 1_000;

/// Reads the values that are not in the live records themselves.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub(crate) fn seed(reader: &dyn Reader, engine_id: EngineId, limits: Limits) -> Result<Seed, StoreError> {
    Ok(Seed {
        engine_id,
        last_seq: COMMANDS.last_sequence(reader)?.max(TASKS.last_sequence(reader)?),
        last_event_id: event::last_id(reader)?,
        limits,
    })
}

/// Every entity, every live tree, and every foreign task that is not cleared. A damaged record is reported and
/// harms only itself.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub(crate) fn changes(reader: &dyn Reader) -> Result<Vec<Change>, StoreError> {
    let mut changes = Vec::new();
    entities(reader, &HOSTS, &mut changes, |record| {
        Ok(Change::Host(Arc::new(host::read_record(record)?)))
    })?;
    entities(reader, &DOMAINS, &mut changes, |record| {
        Ok(Change::Domain(domain::read_record(record)?))
    })?;
    entities(reader, &DISKS, &mut changes, |record| {
        Ok(Change::Disk(disk::read_record(record)?))
    })?;
    entities(reader, &VMS, &mut changes, |record| {
        Ok(Change::Vm(vm::read_record(record)?))
    })?;
    trees(reader, &mut changes)?;
    foreign_tasks(reader, &mut changes)?;
    Ok(changes)
}

/// All commands and tasks of a tree.
pub(crate) fn whole_tree(tree: Tree) -> (Vec<Command>, Vec<AsyncTask>) {
    let commands = tree.commands.into_iter();
    let tasks = tree.tasks.into_iter();
    (
        commands
            .filter_map(|(seq, record)| read_command(seq, record))
            .collect(),
        tasks.filter_map(|(seq, record)| read_task(seq, record)).collect(),
    )
}

/// The command of a record.
pub(crate) fn read_command(seq: u64, record: CommandRecord) -> Option<Command> {
    intact(command::read(seq, record))
}

/// The task of a record.
pub(crate) fn read_task(seq: u64, record: AsyncTaskRecord) -> Option<AsyncTask> {
    intact(task::read(seq, record))
}

fn entities<R: prost::Message + Default>(
    reader: &dyn Reader,
    table: &Keyed<R>,
    changes: &mut Vec<Change>,
    read: impl Fn(R) -> Result<Change, CodecError>,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = table.page(reader, after.as_deref(), PIECE)?;
        changes.extend(
            page.found
                .into_iter()
                .filter_map(|(_, record)| intact(read(record))),
        );
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn trees(reader: &dyn Reader, changes: &mut Vec<Change>) -> Result<(), StoreError> {
    live::each_tree(reader, |tree| {
        let (commands, tasks) = whole_tree(tree);
        changes.extend(
            commands
                .into_iter()
                .map(|command| Change::Command(Arc::new(command))),
        );
        changes.extend(tasks.into_iter().map(|task| Change::Task(Arc::new(task))));
    })
}

fn foreign_tasks(reader: &dyn Reader, changes: &mut Vec<Change>) -> Result<(), StoreError> {
    live::each_foreign_task(reader, |key, record| {
        let task = key::read_sequence(&key).and_then(|seq| read_task(seq, record));
        changes.extend(task.map(|task| Change::Task(Arc::new(task))));
    })
}

fn intact<T>(read: Result<T, CodecError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(%error, "a record cannot be read and is left out"))
        .ok()
}
