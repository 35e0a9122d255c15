//! Synced, then renamed, then the directory synced, then the record: and each of these syncs is needed.

use std::path::{Path, PathBuf};

use common::{Allocation, Operation, VolumeFormat};
use vdsm_storage::file::FileCall;

use crate::pattern;
use crate::support::*;

/// What would not have survived a power cut, had it come where something is declared done: where metadata takes
/// its name, and where a note says that there is no way back.
fn lost(record: &[Happening]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, happening) in record.iter().enumerate() {
        let declares = match happening {
            Happening::Call(FileCall::Rename, path) => path.extension().is_some_and(|e| e == "meta"),
            Happening::Note { past_no_return } => *past_no_return,
            Happening::Call(..) => false,
        };
        if declares {
            found.extend(
                unsynced(&record[..at])
                    .into_iter()
                    .map(|path| format!("{path:?} at {at}")),
            );
        }
    }
    found
}

/// Directories with names, and files with bytes, that no sync has covered since.
fn unsynced(record: &[Happening]) -> Vec<PathBuf> {
    use FileCall as C;
    let mut dirty: Vec<PathBuf> = Vec::new();
    for happening in record {
        let Happening::Call(call, path) = happening else {
            continue;
        };
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        match call {
            C::Write | C::Allocate => dirty.push(path.clone()),
            C::SyncFile | C::SyncDir => dirty.retain(|d| d != path),
            // The name that a file is made under is passing: it counts from the rename on.
            C::CreateFile => dirty.push(path.clone()),
            C::CreateDir | C::Rename => dirty.push(parent),
            C::Unlink | C::RemoveDir => {
                dirty.retain(|d| d != path);
                dirty.push(parent);
            }
        }
    }
    dirty
}

fn record(operation: &Operation, prepare: impl Fn(&Place)) -> Vec<Happening> {
    let place = Place::new();
    prepare(&place);
    place.bench.heal();
    assert_eq!(place.run(operation, task(1)), Ran::Well);
    place.bench.happened.lock().unwrap().clone()
}

fn is_sync(happening: &Happening) -> bool {
    matches!(
        happening,
        Happening::Call(FileCall::SyncFile | FileCall::SyncDir, _)
    )
}

fn assert_every_sync_is_there_and_needed(record: &[Happening]) {
    assert_eq!(lost(record), Vec::<String>::new(), "{record:#?}");
    let syncs: Vec<usize> = (0..record.len()).filter(|at| is_sync(&record[*at])).collect();
    assert!(syncs.len() >= 2);
    for at in syncs {
        let mut without = record.to_vec();
        let removed = without.remove(at);
        assert_ne!(
            lost(&without),
            Vec::<String>::new(),
            "{removed:?} could be left out"
        );
    }
}

#[test]
fn create_volume_syncs_before_it_declares() {
    for (format, allocation) in all_kinds() {
        let record = record(&create(1, format, allocation), |_| ());
        assert_every_sync_is_there_and_needed(&record);
        assert_eq!(record.last(), Some(&Happening::Note { past_no_return: true }));
    }
}

#[test]
fn copy_volume_syncs_before_it_declares() {
    for (format, allocation) in all_kinds() {
        let record = record(&Operation::CopyVolume(copy(format, allocation)), |place| {
            place.must(&create(7, VolumeFormat::Raw, Allocation::Sparse), 7);
            pattern::write(place, 7, VolumeFormat::Raw);
        });
        assert_every_sync_is_there_and_needed(&record);
        assert_eq!(record.last(), Some(&Happening::Note { past_no_return: true }));
    }
}

#[test]
fn extend_volume_syncs_before_it_declares() {
    for (format, allocation) in all_kinds() {
        let record = record(&crate::extend::extend(1, 8), |place| {
            place.must(&create(1, format, allocation), 2);
        });
        assert_eq!(
            lost(&record),
            Vec::<String>::new(),
            "{format:?} {allocation:?}: {record:#?}"
        );
        // Of the others a change is the program's, or was synced with the space.
        if (format, allocation) == (VolumeFormat::Raw, Allocation::Sparse) {
            assert_every_sync_is_there_and_needed(&record);
        }
    }
}

#[test]
fn create_volume_notes_its_intent_first_and_its_file_before_it_has_the_volumes_name() {
    let record = record(&create(1, VolumeFormat::Raw, Allocation::Sparse), |_| ());
    assert_eq!(
        record[0],
        Happening::Note {
            past_no_return: false
        }
    );
    let place = |wanted: &str| {
        let is_it = |h: &Happening| matches!(h, Happening::Call(FileCall::Rename, p) if p.ends_with(wanted));
        record.iter().position(is_it).unwrap()
    };
    let data = place(&volume(1).to_string());
    let meta = place(&format!("{}.meta", volume(1)));
    assert_eq!(
        record[data - 1],
        Happening::Note {
            past_no_return: false
        }
    );
    assert!(data < meta, "data stands before its metadata does");
}

#[test]
fn delete_image_syncs_before_it_declares_and_unlinks_only_after() {
    let record = record(&delete(1), |place| {
        place.must(&create(1, VolumeFormat::Raw, Allocation::Sparse), 2);
    });
    assert_every_sync_is_there_and_needed(&record);
    let first = |wanted: FileCall| {
        let is_it = |h: &Happening| matches!(h, Happening::Call(call, _) if *call == wanted);
        record.iter().position(is_it).unwrap()
    };
    let no_return = record
        .iter()
        .position(|h| *h == Happening::Note { past_no_return: true })
        .unwrap();
    assert_eq!(
        record[0],
        Happening::Note {
            past_no_return: false
        }
    );
    assert!(first(FileCall::Rename) < first(FileCall::SyncDir));
    assert!(first(FileCall::SyncDir) < no_return);
    assert!(
        no_return < first(FileCall::Unlink),
        "nothing is unlinked before that is durable"
    );
    let unlinked: Vec<_> = record
        .iter()
        .filter_map(|h| match h {
            Happening::Call(FileCall::Unlink, path) => path.file_name()?.to_str(),
            _ => None,
        })
        .collect();
    assert_eq!(unlinked, [volume(1).to_string(), format!("{}.meta", volume(1))]);
    assert_eq!(record.last(), Some(&Happening::Note { past_no_return: true }));
}

/// The end of an undo is declared by the task's state: at its end nothing may be unsynced.
#[test]
fn an_undo_is_durable_when_it_returns() {
    // With a directory of its own; and in an empty one that an earlier try left.
    for was_left in [false, true] {
        let place = Place::new();
        if was_left {
            std::fs::create_dir(place.image(1)).unwrap();
        }
        let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
        *place.bench.kill_at.lock().unwrap() = Some("create_volume.sync_image.after".into());
        assert_eq!(place.run(&operation, task(1)), Ran::Killed);
        place.bench.heal();
        place.recover(&operation, task(1), interrupted()).unwrap();
        let record = place.bench.happened.lock().unwrap().clone();
        assert_eq!(unsynced(&record), Vec::<PathBuf>::new(), "{record:#?}");
    }
}
