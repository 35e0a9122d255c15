//! The engine itself: table `engine`, the key `self` → `EngineRecord`.

use std::sync::Arc;

use common::id::{EngineId, Incarnation};
use common::time::Timestamp;
use prost::Message as _;
use proto::store::v1::{EngineHistory, EngineRecord};
use runtime::chance;
use runtime::store::{Commit, Store, StoreError, Table};

use super::scan::{decode, write};
use crate::life::{Life, MAX_LINE};

const ENGINE: Table = Table("engine");
const KEY: &[u8] = b"self";

/// Raises the epoch and takes an incarnation, durably: to be called at each start, before the first call to a host and
/// before anything else is committed. Copies and older states of the data directory are told apart by it.
///
/// # Errors
/// [`StoreError`] if the record cannot be read or written.
pub fn begin(store: &Arc<dyn Store>, now: Timestamp) -> Result<Life, StoreError> {
    let reader = store.reader()?;
    let incarnation = Incarnation::from_uuid(chance::uuid());
    let life = match reader.get(ENGINE, KEY)? {
        Some(bytes) => next(&decode(ENGINE, &bytes)?, incarnation)?,
        None => Life {
            // The id that the data directory was made with: its manifest names the engine by it.
            engine_id: EngineId::from_uuid(store.identity().store_id.as_uuid()),
            epoch: 1,
            incarnation,
            line: Arc::default(),
        },
    };
    let record = EngineRecord {
        engine_id: life.engine_id.to_string(),
        epoch: life.epoch,
        incarnation: life.incarnation.to_string(),
        line: life.line.iter().flat_map(|start| *start.as_bytes()).collect(),
    };
    store.commit(
        [Commit {
            revision: reader.revision().next(),
            time: now,
            history: EngineHistory::default().encode_to_vec(),
            writes: vec![write(ENGINE, KEY.to_vec(), Some(record.encode_to_vec()))],
        }]
        .into(),
    )?;
    Ok(life)
}

/// The start after the one that was recorded.
fn next(record: &EngineRecord, incarnation: Incarnation) -> Result<Life, StoreError> {
    let damaged = |what: &str, error| StoreError::Damaged(format!("the engine's {what} {error}"));
    let engine_id = record.engine_id.parse().map_err(|error| damaged("id", error))?;
    let (earlier, rest) = record.line.as_chunks::<16>();
    if !rest.is_empty() {
        let words = "the engine's line is cut off";
        return Err(StoreError::Damaged(words.to_owned()));
    }
    let mut line: Vec<Incarnation> = earlier
        .iter()
        .map(|bytes| Incarnation::from_slice(bytes).map_err(|error| damaged("line", error)))
        .collect::<Result<_, _>>()?;
    if !record.incarnation.is_empty() {
        let last = record.incarnation.parse();
        line.push(last.map_err(|error| damaged("incarnation", error))?);
    }
    line.drain(..line.len().saturating_sub(MAX_LINE));
    let epoch = record.epoch.checked_add(1);
    Ok(Life {
        engine_id,
        epoch: epoch.ok_or_else(|| StoreError::Damaged("the engine's epoch has no next".to_owned()))?,
        incarnation,
        line: line.into(),
    })
}

#[cfg(test)]
mod tests {
    use runtime::store::memory::MemoryStore;

    use super::*;

    #[test]
    fn each_start_has_a_higher_epoch_and_descends_from_those_before_it() {
        let store: Arc<dyn Store> = MemoryStore::new();
        let lives: Vec<Life> = (0..4).map(|_| begin(&store, Timestamp(0)).unwrap()).collect();
        for (at, life) in lives.iter().enumerate() {
            assert_eq!((life.engine_id, life.epoch), (lives[0].engine_id, at as u64 + 1));
            let before: Vec<_> = lives[..at].iter().map(|life| life.incarnation).collect();
            assert_eq!(&*life.line, before);
        }
    }

    #[test]
    fn a_line_is_bounded_and_keeps_the_youngest() {
        let record = EngineRecord {
            engine_id: EngineId::from_uuid(chance::uuid()).to_string(),
            epoch: 9_999,
            incarnation: chance::uuid().to_string(),
            line: (0..MAX_LINE).flat_map(|_| *chance::uuid().as_bytes()).collect(),
        };
        let life = next(&record, Incarnation::from_uuid(chance::uuid())).unwrap();
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
        let start = Incarnation::from_uuid(chance::uuid());
        let life = next(&old, start).unwrap();
        assert_eq!((life.epoch, life.incarnation, life.line.len()), (6, start, 0));
        for damaged in [
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
            assert!(next(&damaged, start).is_err());
        }
    }
}
