//! The engine itself: table `engine`, the key `self` → `EngineRecord`.

use std::sync::Arc;

use common::id::{EngineId, Incarnation};
use prost::Message as _;
use proto::store::v1::{EngineHistory, EngineRecord};
use runtime::ages::Stamp;
use runtime::chance;
use store::{Commit, Reader, Store, StoreError, Table, Write};

use super::scan::{decode, write};
use crate::life::{Key, Life, MAX_LINE};

const ENGINE: Table = Table("engine");
const KEY: &[u8] = b"self";

/// Raises the epoch and takes an incarnation, durably. To be called at each start, before the first call to a host
/// and before any other commit: by the incarnation, hosts tell copies and older states of the data directory apart.
///
/// A new engine gets the id that its certificate names (`named`), if any.
///
/// # Errors
/// [`StoreError`] if the record cannot be read or written.
pub fn begin(store: &Arc<dyn Store>, stamp: Stamp, named: Option<EngineId>) -> Result<Life, StoreError> {
    let reader = store.reader()?;
    let random = chance::number();
    let life = match recorded(&*reader)? {
        Some(before) => next(&before, random)?,
        None => {
            // Otherwise the id that the data directory was made with, because the manifest names the engine by it.
            let made = EngineId::from_uuid(store.identity().store_id.as_uuid());
            let engine_id = named.unwrap_or(made);
            let key = Key::random();
            Life {
                engine_id,
                epoch: 1,
                incarnation: key.incarnation(engine_id, random),
                line: Arc::default(),
                key,
            }
        }
    };
    store.commit(
        [Commit {
            revision: reader.revision().next(),
            time: stamp.time,
            history: EngineHistory::default().encode_to_vec(),
            writes: [put(&life)].into_iter().chain(stamp.writes).collect(),
        }]
        .into(),
    )?;
    Ok(life)
}

/// The engine's id; none before its first start.
///
/// # Errors
/// [`StoreError`] if the record cannot be read.
pub(crate) fn recorded_id(reader: &dyn Reader) -> Result<Option<EngineId>, StoreError> {
    recorded(reader)?.as_ref().map(engine_id).transpose()
}

/// The recorded life; none before the first start.
///
/// # Errors
/// [`StoreError`] if the record cannot be read.
pub(crate) fn present(reader: &dyn Reader) -> Result<Option<Life>, StoreError> {
    let record = recorded(reader)?;
    record.map(|record| read(&record)).transpose()
}

/// The same engine as another incarnation, as after another start, while the process goes on.
///
/// # Errors
/// [`StoreError`] if there is no next epoch.
pub(crate) fn renewed(life: &Life) -> Result<(Life, Write), StoreError> {
    let next = next(&record(life), chance::number())?;
    let write = put(&next);
    Ok((next, write))
}

fn recorded(reader: &dyn Reader) -> Result<Option<EngineRecord>, StoreError> {
    let bytes = reader.get(ENGINE, KEY)?;
    bytes.map(|bytes| decode(ENGINE, &bytes)).transpose()
}

fn record(life: &Life) -> EngineRecord {
    EngineRecord {
        engine_id: life.engine_id.to_string(),
        epoch: life.epoch,
        incarnation: life.incarnation.to_string(),
        line: life.line.iter().flat_map(|start| *start.as_bytes()).collect(),
        key: life.key.as_bytes().to_vec(),
    }
}

fn put(life: &Life) -> Write {
    write(ENGINE, KEY.to_vec(), Some(record(life).encode_to_vec()))
}

/// Reads the recorded start.
fn read(record: &EngineRecord) -> Result<Life, StoreError> {
    let key = Key::from_slice(&record.key);
    Ok(Life {
        engine_id: engine_id(record)?,
        epoch: record.epoch,
        incarnation: incarnation(record)?,
        line: line(record)?.into(),
        key: key.ok_or_else(cut_key)?,
    })
}

/// The start after the recorded one.
fn next(record: &EngineRecord, random: u64) -> Result<Life, StoreError> {
    let engine_id = engine_id(record)?;
    let mut line = line(record)?;
    if !record.incarnation.is_empty() {
        line.push(incarnation(record)?);
    }
    line.drain(..line.len().saturating_sub(MAX_LINE));
    let epoch = record.epoch.checked_add(1);
    let key = match &record.key[..] {
        // The record of an older build: copies that were made before this start do not have the key.
        [] => Key::random(),
        bytes => Key::from_slice(bytes).ok_or_else(cut_key)?,
    };
    Ok(Life {
        engine_id,
        epoch: epoch.ok_or_else(|| StoreError::Damaged("the engine's epoch has no next".to_owned()))?,
        incarnation: key.incarnation(engine_id, random),
        line: line.into(),
        key,
    })
}

fn engine_id(record: &EngineRecord) -> Result<EngineId, StoreError> {
    record.engine_id.parse().map_err(|error| damaged("id", error))
}

fn incarnation(record: &EngineRecord) -> Result<Incarnation, StoreError> {
    let parsed = record.incarnation.parse();
    parsed.map_err(|error| damaged("incarnation", error))
}

fn line(record: &EngineRecord) -> Result<Vec<Incarnation>, StoreError> {
    let (earlier, rest) = record.line.as_chunks::<16>();
    if !rest.is_empty() {
        let words = "the engine's line is cut off";
        return Err(StoreError::Damaged(words.to_owned()));
    }
    let starts = earlier.iter().map(|bytes| Incarnation::from_slice(bytes));
    starts
        .collect::<Result<_, _>>()
        .map_err(|error| damaged("line", error))
}

fn damaged(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("the engine's {what} {error}"))
}

fn cut_key() -> StoreError {
    StoreError::Damaged("the engine's key is cut off".to_owned())
}

#[cfg(test)]
mod tests {
    use common::time::Timestamp;
    use doubles::memory::MemoryStore;

    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            time: Timestamp(0),
            writes: None,
        }
    }

    #[test]
    fn each_start_has_a_higher_epoch_and_descends_from_those_before_it() {
        let store: Arc<dyn Store> = MemoryStore::new();
        let lives: Vec<Life> = (0..4).map(|_| begin(&store, stamp(), None).unwrap()).collect();
        for (at, life) in lives.iter().enumerate() {
            assert_eq!((life.engine_id, life.epoch), (lives[0].engine_id, at as u64 + 1));
            let before: Vec<_> = lives[..at].iter().map(|life| life.incarnation).collect();
            assert_eq!(&*life.line, before);
            assert_eq!(life.key, lives[0].key);
            assert!(life.key.has_made(life.engine_id, life.incarnation));
        }
    }

    #[test]
    fn a_start_that_takes_another_incarnation_descends_from_itself() {
        let store: Arc<dyn Store> = MemoryStore::new();
        begin(&store, stamp(), None).unwrap();
        let life = begin(&store, stamp(), None).unwrap();
        assert_eq!(present(&*store.reader().unwrap()).unwrap(), Some(life.clone()));
        let (next, write) = renewed(&life).unwrap();
        assert_eq!((next.engine_id, next.epoch), (life.engine_id, life.epoch + 1));
        assert_eq!(
            (&next.line[..1], next.line[1]),
            (&life.line[..], life.incarnation)
        );
        assert!(life.key.has_made(life.engine_id, next.incarnation));
        assert_eq!(write, put(&next));
    }

    #[test]
    fn a_line_is_bounded_and_keeps_the_youngest() {
        let record = EngineRecord {
            engine_id: EngineId::from_uuid(chance::uuid()).to_string(),
            epoch: 9_999,
            incarnation: chance::uuid().to_string(),
            line: (0..MAX_LINE).flat_map(|_| *chance::uuid().as_bytes()).collect(),
            key: Vec::new(),
        };
        let life = next(&record, 1).unwrap();
        assert_eq!(life.line.len(), MAX_LINE);
        assert_eq!(
            life.line.last().map(ToString::to_string),
            Some(record.incarnation)
        );
    }

    #[test]
    fn a_record_of_an_older_build_is_taken_up_and_a_damaged_one_refused() {
        let old = EngineRecord {
            engine_id: EngineId::from_uuid(chance::uuid()).to_string(),
            epoch: 5,
            ..EngineRecord::default()
        };
        let life = next(&old, 1).unwrap();
        assert_eq!((life.epoch, life.line.len()), (6, 0));
        assert!(life.key.has_made(life.engine_id, life.incarnation));
        assert_ne!(next(&old, 1).unwrap().key, life.key, "nobody else has it");
        for damaged in [
            EngineRecord {
                key: vec![1; 31],
                ..old.clone()
            },
            EngineRecord {
                line: vec![1; 17],
                ..old.clone()
            },
            EngineRecord {
                incarnation: "x".into(),
                ..old.clone()
            },
            EngineRecord {
                epoch: u64::MAX,
                ..old
            },
        ] {
            assert!(next(&damaged, 1).is_err());
        }
    }
}
