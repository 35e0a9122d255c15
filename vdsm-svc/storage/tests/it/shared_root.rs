//! Two services on one storage root: what each leaves for itself in the root is not taken for the other's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::id::HostId;
use common::{Allocation, VolumeFormat};
use uuid::Uuid;
use vdsm_storage::{StorageRoot, run_dir};

use crate::support::*;

/// Enough that a task begins in the very instant of a look.
const TASKS: u128 = 60;

/// Domains that both make at once.
const DOMAINS: u128 = 20;

fn second(place: &Place) -> StorageRoot {
    let other_host = HostId::from_uuid(Uuid::from_u128(0x4058));
    StorageRoot::open(
        place.temp.path(),
        options(other_host, &place.path(".of-the-other")),
    )
    .unwrap()
}

struct Sets<'a>(&'a AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A start removes the run directories of tasks that it does not know and of which no process is left: another
/// service's that just begin are not dead.
#[test]
fn the_sweep_of_one_takes_no_run_directory_from_the_other() {
    let place = Place::new();
    let second = second(&place);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also where a creation panics.
        let _over = Sets(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                run_dir::sweep(&second, &|_| false).unwrap();
            }
        });
        let ran: Vec<_> = (1..=TASKS)
            .map(|n| place.run(&create(n, VolumeFormat::Cow, Allocation::Sparse), task(n)))
            .collect();
        for ran in ran {
            assert_eq!(ran, Ran::Well);
        }
    });
}

#[test]
fn a_domain_that_both_make_at_once_is_whole() {
    let place = Place::new();
    let second = second(&place);
    for n in 0..DOMAINS {
        let id = common::id::DomainId::from_uuid(Uuid::from_u128(0xd00 + n));
        thread::scope(|scope| {
            let other = scope.spawn(|| second.create_domain(id, "both"));
            place.root().create_domain(id, "both").unwrap();
            other.join().unwrap().unwrap();
        });
        let names = place.root().domains().unwrap();
        assert!(names.iter().all(|listed| listed.info.is_ok()), "{names:?}");
        let dom_md = place.path(&format!("{id}/dom_md"));
        assert_eq!(std::fs::read_dir(dom_md).unwrap().count(), 5, "it is whole");
    }
}
