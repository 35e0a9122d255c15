//! The engine itself: table `engine`, the key `self` → `EngineRecord`.

use std::sync::Arc;

use common::id::EngineId;
use common::time::Timestamp;
use prost::Message as _;
use proto::store::v1::{EngineHistory, EngineRecord};
use runtime::store::{Commit, Store, StoreError, Table};

use super::scan::{decode, write};

const ENGINE: Table = Table("engine");
const KEY: &[u8] = b"self";

/// Who this engine is, in this start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Made once, with the data directory.
    pub engine_id: EngineId,
    /// Rises with each start.
    pub epoch: u64,
}

/// Raises the epoch, durably: to be called at each start, before the first call to a host and before anything
/// else is committed. A hostile or restored copy of the engine is told apart by it.
///
/// # Errors
/// [`StoreError`] if the record cannot be read or written.
pub fn begin(store: &Arc<dyn Store>, now: Timestamp) -> Result<Identity, StoreError> {
    let reader = store.reader()?;
    let (engine_id, epoch) = match reader.get(ENGINE, KEY)? {
        Some(bytes) => read(&decode(ENGINE, &bytes)?)?,
        // The id that the data directory was made with: its manifest names the engine by it.
        None => (EngineId::from_uuid(store.identity().store_id.as_uuid()), 0),
    };
    let identity = Identity {
        engine_id,
        epoch: epoch + 1,
    };
    let record = EngineRecord {
        engine_id: engine_id.to_string(),
        epoch: identity.epoch,
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
    Ok(identity)
}

fn read(record: &EngineRecord) -> Result<(EngineId, u64), StoreError> {
    let engine_id = record.engine_id.parse();
    let engine_id = engine_id.map_err(|error| StoreError::Damaged(format!("the engine's id {error}")))?;
    Ok((engine_id, record.epoch))
}

#[cfg(test)]
mod tests {
    use runtime::store::memory::MemoryStore;

    use super::*;

    #[test]
    fn the_epoch_rises_with_each_start_and_the_id_stays() {
        let store: Arc<dyn Store> = MemoryStore::new();
        let first = begin(&store, Timestamp(0)).unwrap();
        let second = begin(&store, Timestamp(0)).unwrap();
        assert_eq!((first.epoch, second.epoch), (1, 2));
        assert_eq!(first.engine_id, second.engine_id);
    }
}
