//! A domain that is full, or becomes so, in the middle of a creation: `NO_SPACE`, and nothing is left of it; with
//! room again the same creation succeeds.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use common::{Allocation, FaultCode, VolumeFormat};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use vdsm_storage::OpEnd;
use vdsm_storage::volume::VolumeStatus;

use crate::mount::{Mount, skipped};
use crate::support::*;

/// Of the file system.
const BLOCK: u64 = 1024;

/// Of the data of a preallocated volume.
const DATA: u64 = 4 * MIB / BLOCK;

/// Takes the blocks of a file system, all but a few.
struct Filler {
    path: PathBuf,
}

impl Filler {
    /// Leaves `blocks` of them, or a little less.
    fn leave(mount: &Mount, blocks: u64) -> Self {
        let filler = Self {
            path: mount.path().join("filler"),
        };
        let kept = mount.path().join("kept");
        let keep = File::create(&kept).unwrap();
        if blocks > 0 {
            rustix::fs::fallocate(&keep, FallocateFlags::empty(), 0, blocks * BLOCK).unwrap();
        }
        let file = File::create(&filler.path).unwrap();
        let (mut piece, mut size) = (64 * MIB, 0);
        while piece >= BLOCK {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), size, piece) {
                Ok(()) => size += piece,
                Err(Errno::NOSPC) => piece /= 2,
                Err(error) => panic!("{error}"),
            }
        }
        give_back(&kept);
        mount.sync();
        filler
    }
}

/// Children that other threads are just starting hold copies of all files for an instant: an unlinked file would keep
/// its blocks as long.
fn give_back(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(0).unwrap();
    fs::remove_file(path).unwrap();
}

impl Drop for Filler {
    fn drop(&mut self) {
        give_back(&self.path);
    }
}

#[test]
fn a_creation_that_meets_the_end_of_the_space_at_any_block_leaves_nothing() {
    let Some(mount) = Mount::make(&["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "1024"]) else {
        skipped("a full domain");
        return;
    };
    let place = Place::at(tempfile::tempdir_in(mount.path()).unwrap());
    // What is made once for all tasks is there.
    place.must(&create(9, VolumeFormat::Cow, Allocation::Sparse), 9);
    let before = place.contents();
    for (format, allocation) in all_kinds() {
        let operation = create(1, format, allocation);
        let (mut refused, mut undone, mut made) = (0, 0, 0);
        // Around what a sparse one takes, and what a preallocated one does, in either format.
        let around = (0..24).chain(DATA - 4..DATA + 24);
        for blocks in around.chain((DATA + 24..DATA + 1_500).step_by(61)) {
            let filler = Filler::leave(&mount, blocks);
            let how = format!("{format:?} {allocation:?}, {blocks} blocks free");
            match place.run(&operation, task(1)) {
                Ran::Well => {
                    made += 1;
                    let info = place.root().volume(domain(), image(1), volume(1)).unwrap();
                    assert_eq!((info.status, info.fault), (VolumeStatus::Ok, None), "{how}");
                }
                Ran::Ill(fault) => {
                    assert_eq!(fault.code, FaultCode::NoSpace, "{how}: {fault:?}");
                    match place.bench.notes.lock().unwrap().is_some() {
                        true => undone += 1,
                        false => refused += 1,
                    }
                    let end = place.recover(&operation, task(1), fault).unwrap();
                    assert!(matches!(end, OpEnd::Undone(_)), "{how}: {end:?}");
                    assert!(place.contents() == before, "{how}: something is left");
                }
                Ran::Killed => unreachable!("nothing kills"),
            }
            // Reading needs no room.
            let neighbour = place.root().volume(domain(), image(9), volume(9)).unwrap();
            assert_eq!(neighbour.fault, None, "{how}");
            assert!(place.root().domain(domain()).unwrap().info().is_ok(), "{how}");
            drop(filler);
            *place.bench.notes.lock().unwrap() = None;
            place.bench.heal();
            if place.image(1).exists() {
                // Deleting neither, but it is tried where there is some.
                place.must(&delete(1), 2);
            }
        }
        eprintln!("{format:?} {allocation:?}: {refused} refused, {undone} undone, {made} made");
        assert!(undone > 0, "no creation met the end in its middle");
        assert!(made > 0, "there was room for none");
        place.must(&operation, 3);
        place.must(&delete(1), 4);
    }
}

#[test]
fn what_is_on_a_full_domain_can_be_deleted() {
    let Some(mount) = Mount::make(&["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "1024"]) else {
        skipped("deleting from a full domain");
        return;
    };
    let place = Place::at(tempfile::tempdir_in(mount.path()).unwrap());
    for (n, (format, allocation)) in (1..).zip(all_kinds()) {
        place.must(&create(n, format, allocation), n);
        let filler = Filler::leave(&mount, 0);
        place.must(&delete(n), 10 + n);
        assert!(!place.image(n).exists());
        drop(filler);
    }
}
