//! What an engine has committed, read from a copy of its store: for the bare parts to commit again, byte for byte.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use common::revision::Revision as Number;
use prost::Message as _;
use proto::encode;
use proto::engine::v1::AsyncTask;
use proto::store::v1::{AsyncTaskRecord, EngineHistory};
use store::disk::{DiskStore, Options, Owner};
use store::{Reader, Recorded, Store as _, Table};
use tests::{Context as _, Failure, TestResult};

use crate::bare::commit::Revision;

const HOSTS: Table = Table("host");
const TASK_KEYS: Table = Table("task/id");

/// The place of a task in its command.
const PLACE: &str = "do";

/// Some revisions of state edges, as the engine has committed them: the history's bytes, the record of each task
/// that changed, and the record of its host, which holds the cursor. The engine must be idle.
///
/// # Errors
/// Where the store cannot be copied or read.
pub(crate) fn edges(data_dir: &Path, revisions: RangeInclusive<u64>) -> TestResult<Vec<Revision>> {
    let copy = data_dir.with_extension("copy");
    tests::storage::copy(data_dir, &copy)?;
    let store = DiskStore::open(&copy, Options::of(Owner::service("engine-svc"))).map_err(Failure::new)?;
    let (first, last) = revisions.into_inner();
    let count = usize::try_from(last + 1 - first).map_err(Failure::new)?;
    let recorded = store.history(Number(first - 1), count).map_err(Failure::new)?;
    let reader = store.reader().map_err(Failure::new)?;
    let found = recorded.iter().map(|recorded| read(&*reader, recorded)).collect();
    drop((reader, store));
    fs::remove_dir_all(copy)?;
    found
}

fn read(reader: &dyn Reader, recorded: &Recorded) -> TestResult<Revision> {
    let shown = EngineHistory::decode(recorded.history.as_slice()).map_err(Failure::new)?;
    let mut puts = Vec::new();
    for task in encode::read::<AsyncTask>(&shown.tasks).map_err(Failure::new)? {
        let host = uuid(&task.host_id)?;
        puts.push(("host", host.clone(), get(reader, HOSTS, &host)?));
        let key = get(reader, TASK_KEYS, &uuid(&task.task_id)?)?;
        puts.push(("task", key, record(task, recorded.revision.0)));
    }
    // The start and the time are kept with it.
    let mut history = recorded.start.0.to_be_bytes().to_vec();
    history.extend(recorded.time.0.to_be_bytes());
    history.extend(&recorded.history);
    Ok(Revision { history, puts })
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

fn get(reader: &dyn Reader, table: Table, key: &[u8]) -> TestResult<Vec<u8>> {
    let value = reader.get(table, key).map_err(Failure::new)?;
    value.context("a record is missing in the engine's store")
}

fn uuid(text: &str) -> TestResult<Vec<u8>> {
    Ok(uuid::Uuid::try_parse(text)
        .map_err(Failure::new)?
        .into_bytes()
        .to_vec())
}
