//! The host's records, and how they are read.
//!
//! | table | key | value |
//! |---|---|---|
//! | [`TASK`] | ordinal, big-endian | `vdsm_engine.store.v1.HostTaskRecord`, of a task that is not cleared |
//! | [`CLEARED`] | ordinal, big-endian | the same, of one that is |
//! | [`TASK_ID`] | the task's id, 16 bytes | its ordinal |
//! | [`OWNER`] | [`OWNER_KEY`] | `vdsm_engine.store.v1.HostOwnerRecord` |
//!
//! There are two tables of tasks, so that a start reads, and a snapshot shows, only tasks that are not cleared, and
//! the acceptance of a task needs no third record for an index.

mod codec;
mod list;
mod machine;
mod shown;

use std::sync::Arc;

use ::store::{Reader, Store, StoreError, Table};
use common::id::TaskId;
use common::task::TaskState;
use vdsm_core::{Known, Ordinal, Owner, Task};

pub(crate) use codec::{decode_owner, decode_task, nobodys, shown_take_over};
pub(crate) use list::{Listing, list};
pub(crate) use machine::{HostMachine, Seed};
pub(crate) use shown::shown;

/// Tasks that are not cleared.
pub(crate) const TASK: Table = Table("task");

/// Tasks that are cleared.
pub(crate) const CLEARED: Table = Table("task_cleared");

/// The ordinal of each task's record, by the task's id.
pub(crate) const TASK_ID: Table = Table("task_id");

/// The owner of the host.
pub(crate) const OWNER: Table = Table("owner");

/// The only key of [`OWNER`].
pub(crate) const OWNER_KEY: &[u8] = b"owner";

pub(crate) const fn ordinal_key(ordinal: Ordinal) -> [u8; 8] {
    ordinal.0.to_be_bytes()
}

pub(crate) fn ordinal_of(key: &[u8]) -> Result<Ordinal, StoreError> {
    let bytes = key
        .try_into()
        .map_err(|_| damaged("an ordinal", "is not 8 bytes long"))?;
    Ok(Ordinal(u64::from_be_bytes(bytes)))
}

/// A task by its id, cleared or not.
///
/// # Errors
/// [`StoreError`] if the task cannot be read; a record that cannot be understood never counts as missing.
pub(crate) fn find(reader: &dyn Reader, id: TaskId) -> Result<Option<Task>, StoreError> {
    let Some(key) = reader.get(TASK_ID, id.as_bytes())? else {
        return Ok(None);
    };
    let record = match reader.get(TASK, &key)? {
        Some(record) => record,
        None => reader
            .get(CLEARED, &key)?
            .ok_or_else(|| damaged(id, "is in the index and has no record"))?,
    };
    decode_task(ordinal_of(&key)?, &record).map(Some)
}

/// What the store knows of an id, at the reader's revision.
///
/// # Errors
/// The errors of [`find`].
pub(crate) fn known(reader: &dyn Reader, id: TaskId) -> Result<Known, StoreError> {
    Ok(Known {
        revision: reader.revision(),
        task: find(reader, id)?.map(Arc::new),
    })
}

/// The record of the host's owner, the present or the last one.
///
/// # Errors
/// [`StoreError`] if it cannot be read.
pub(crate) fn owner(reader: &dyn Reader) -> Result<Option<Owner>, StoreError> {
    let record = reader.get(OWNER, OWNER_KEY)?;
    record.map(|record| decode_owner(&record)).transpose()
}

/// Whether an id may be one of this store's tasks. If that cannot be read, the id counts as known, because "an
/// orphan" is a verdict. The store is read anew for each question, since a process is seen first and its task looked
/// up afterwards: an earlier snapshot would lack tasks that were accepted in between.
pub(crate) fn may_know(store: &dyn Store, id: TaskId) -> bool {
    let found = store
        .reader()
        .and_then(|reader| reader.get(TASK_ID, id.as_bytes()));
    !matches!(found, Ok(None))
}

/// Whether a task of this id may still have work to do, or need somebody to examine it. Like [`may_know`], but false
/// for a task that was finished or undone: nothing of it must be left.
pub(crate) fn may_need(store: &dyn Store, id: TaskId) -> bool {
    match store.reader().and_then(|reader| find(&*reader, id)) {
        Ok(Some(task)) => !matches!(task.state, TaskState::Finished | TaskState::Recovered),
        Ok(None) => false,
        Err(_) => true,
    }
}

pub(crate) fn damaged(what: impl std::fmt::Display, why: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("{what}: {why}"))
}
