//! `--release-host`: releases the host while the service is stopped, whoever has it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::store::disk::{self, DiskStore};
use ::store::{Commit, Store, StoreError, Write};
use common::id::HostId;
use prost::Message as _;
use proto::store::v1::HostHistory;
use runtime::ages::Ages;
use vdsm_core::Owner;

use crate::store::{OWNER, OWNER_KEY, nobodys, owner};

/// A directory without this file holds no store, and none must be made here.
const STORE: &str = "store.redb";

/// Forgets the host's owner, durably, in the store of this data directory. From then on the host is like one that no
/// engine ever had: the first engine that claims it gets it. Tasks stay as they are. Returns in words what was done.
///
/// # Errors
/// [`StoreError`] if the directory holds no store, is another host's, is in use, or cannot be read or written.
pub fn release_host(data_dir: &Path, host_id: HostId) -> Result<String, StoreError> {
    if !data_dir.join(STORE).is_file() {
        let words = format!("{} has no store: nothing was changed", data_dir.display());
        return Err(StoreError::Damaged(words));
    }
    let owner = disk::Owner {
        id: Some(host_id.as_uuid()),
        ..crate::service::OWNER
    };
    let store: Arc<dyn Store> = DiskStore::open(data_dir, disk::Options::of(owner))?;
    release(&store)
}

fn release(store: &Arc<dyn Store>) -> Result<String, StoreError> {
    let reader = store.reader()?;
    let found = owner(&*reader);
    // The last take-over by a person stays recorded for as long as the host exists.
    let kept = found
        .as_ref()
        .ok()
        .and_then(|owner| owner.as_ref()?.taken_over.clone());
    let was = match found {
        Ok(owner) if owner.as_ref().is_none_or(Owner::is_nobody) => {
            return Ok("no engine has this host: nothing was changed".to_owned());
        }
        Ok(None) => String::new(),
        Ok(Some(owner)) => {
            let start = owner.incarnation.map(|start| format!(", incarnation {start}"));
            let released = if owner.released {
                ", which had released it"
            } else {
                ""
            };
            format!(
                "engine {}, epoch {}{}{released}",
                owner.engine_id,
                owner.epoch,
                start.unwrap_or_default()
            )
        }
        Err(error) => format!("an engine that cannot be read ({error})"),
    };
    // The record of the clock stays as it is, whatever its age.
    let stamp = Ages::open(&**store, Duration::MAX)?.stamp();
    let none = Write {
        table: OWNER,
        key: OWNER_KEY.to_vec(),
        value: kept.map(nobodys),
    };
    store.commit(
        [Commit {
            revision: store.reader()?.revision().next(),
            time: stamp.time,
            history: HostHistory::default().encode_to_vec(),
            writes: [none].into_iter().chain(stamp.writes).collect(),
        }]
        .into(),
    )?;
    Ok(format!(
        "this host belonged to {was}; it belongs to no engine now, and the first engine that claims it gets it. Its tasks are unchanged"
    ))
}

#[cfg(test)]
mod tests {
    use doubles::memory::MemoryStore;
    use runtime::clock;

    use super::*;

    fn owned(record: Vec<u8>) -> Arc<dyn Store> {
        let store: Arc<dyn Store> = MemoryStore::new();
        let commit = Commit {
            revision: store.reader().unwrap().revision().next(),
            time: clock::now(),
            history: HostHistory::default().encode_to_vec(),
            writes: vec![Write {
                table: OWNER,
                key: OWNER_KEY.to_vec(),
                value: Some(record),
            }],
        };
        store.commit([commit].into()).unwrap();
        store
    }

    #[test]
    fn the_directory_of_another_host_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [own, other] = [1, 2].map(|n| HostId::from_uuid(uuid::Uuid::from_u128(n)));
        let options = disk::Options::of(disk::Owner {
            id: Some(own.as_uuid()),
            ..crate::service::OWNER
        });
        drop(DiskStore::open(folder.path(), options).unwrap());
        let refused = release_host(folder.path(), other).unwrap_err().to_string();
        assert!(refused.contains(&own.to_string()), "{refused}");
        assert!(
            release_host(folder.path(), own)
                .unwrap()
                .contains("nothing was changed")
        );
    }

    #[test]
    fn how_it_was_taken_over_is_told_after_it_was_nobodys() {
        let told = proto::host::v1::HostTakeOver {
            user: "ann".into(),
            reason: "it burnt down".into(),
            ..Default::default()
        };
        let record = proto::store::v1::HostOwnerRecord {
            engine_id: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into(),
            engine_epoch: 7,
            last_take_over: Some(told),
            ..Default::default()
        };
        let store = owned(record.encode_to_vec());
        release(&store).unwrap();
        let nobody = owner(&*store.reader().unwrap()).unwrap().unwrap();
        assert!(nobody.is_nobody());
        assert_eq!(nobody.taken_over.unwrap().by.user, "ann");
        assert!(release(&store).unwrap().contains("nothing was changed"));
    }

    #[test]
    fn a_host_is_given_up_whoever_has_it_and_what_was_done_is_said() {
        let record = proto::store::v1::HostOwnerRecord {
            engine_id: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into(),
            engine_epoch: 7,
            ..Default::default()
        };
        for (record, named) in [
            (
                record.encode_to_vec(),
                "6ba7b810-9dad-41d1-80b4-00c04fd430c8, epoch 7",
            ),
            (b"\xff\xff".to_vec(), "cannot be read"),
        ] {
            let store = owned(record);
            let said = release(&store).unwrap();
            assert!(said.contains(named), "{said}");
            assert!(owner(&*store.reader().unwrap()).unwrap().is_none());
            assert!(release(&store).unwrap().contains("nothing was changed"));
        }
    }
}
