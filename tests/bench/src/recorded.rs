//! What an engine has committed, read from a copy of its database: for the bare parts to commit again, byte for byte.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use prost::Message as _;
use proto::encode;
use proto::engine::v1::AsyncTask;
use proto::store::v1::{AsyncTaskRecord, EngineHistory};
use redb::{Database, ReadTransaction, ReadableDatabase as _, TableDefinition};
use tests::{Context as _, Failure, Outcome};

use crate::bare::commit::Revision;

/// The store's file in a data directory.
pub(crate) const FILE: &str = "store.redb";

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

const HISTORY: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("runtime/history");
const HOSTS: Bytes = TableDefinition::new("host");
const TASK_KEYS: Bytes = TableDefinition::new("task/id");

/// The start and the time before each revision's bytes in the history.
const HISTORY_PREFIX: usize = 16;

/// The place of a task in its command.
const PLACE: &str = "do";

/// Some revisions of state edges, as the engine has committed them: the history's bytes, the record of each task
/// that changed, and the record of its host, which holds the cursor. The engine must be idle.
///
/// # Errors
/// Where the database cannot be copied or read.
pub(crate) fn edges(data_dir: &Path, revisions: RangeInclusive<u64>) -> Outcome<Vec<Revision>> {
    let copy = data_dir.join("copy.redb");
    fs::copy(data_dir.join(FILE), &copy).context(copy.display())?;
    let database = Database::open(&copy).map_err(failed)?;
    let transaction = database.begin_read().map_err(failed)?;
    // It is gone when it is closed, and is never written out.
    fs::remove_file(&copy)?;
    read(&transaction, revisions)
}

fn read(transaction: &ReadTransaction, revisions: RangeInclusive<u64>) -> Outcome<Vec<Revision>> {
    let history = transaction.open_table(HISTORY).map_err(failed)?;
    let mut found = Vec::new();
    for entry in history.range(revisions).map_err(failed)? {
        let (number, value) = entry.map_err(failed)?;
        let bytes = value.value();
        let shown = bytes.get(HISTORY_PREFIX..).unwrap_or_default();
        let shown = EngineHistory::decode(shown).map_err(Failure::new)?;
        let mut puts = Vec::new();
        for task in encode::read::<AsyncTask>(&shown.tasks).map_err(Failure::new)? {
            let host = uuid(&task.host_id)?;
            puts.push(("host", host.clone(), get(transaction, HOSTS, &host)?));
            let key = get(transaction, TASK_KEYS, &uuid(&task.task_id)?)?;
            puts.push(("task", key, record(task, number.value())));
        }
        found.push(Revision {
            history: bytes.to_vec(),
            puts,
        });
    }
    Ok(found)
}

/// As it was after this very change; the table holds only the last one.
fn record(task: AsyncTask, tree_sequence: u64) -> Vec<u8> {
    let record = AsyncTaskRecord {
        task: Some(task),
        tree_sequence,
        place: PLACE.to_owned(),
        ..AsyncTaskRecord::default()
    };
    record.encode_to_vec()
}

fn get(transaction: &ReadTransaction, table: Bytes, key: &[u8]) -> Outcome<Vec<u8>> {
    let table = transaction.open_table(table).map_err(failed)?;
    let value = table.get(key).map_err(failed)?;
    Ok(value
        .context("a record is missing in the engine's database")?
        .value()
        .to_vec())
}

fn uuid(text: &str) -> Outcome<Vec<u8>> {
    Ok(uuid::Uuid::try_parse(text)
        .map_err(Failure::new)?
        .into_bytes()
        .to_vec())
}

fn failed(error: impl Into<redb::Error>) -> Failure {
    Failure::new(format!("a copy of the engine's database: {}", error.into()))
}
