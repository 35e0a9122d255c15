//! `RemoveVm` with four small disks, from the request to the end of its job; and what part of it is the disk.
//!
//! *Ours*: a real engine and a real host; each round creates a VM with one disk of each kind and removes it. The
//! clock runs from the request until `WaitCommand` says that the command has ended. *Bare*: what cannot be left out,
//! in the same order: the engine's commit that accepts the command; the host's commits for accepting four tasks,
//! their notes and their commit points; four renames, each synced; the note; four times unlinking and syncing; the
//! host's commit of four ends; and the engine's. What may go side by side does so, as in ours. Deleting an image
//! starts no `qemu-img`, so the bare figure is all disk.
//!
//! In oVirt the same takes 11 s on average, by its polling timers.

use std::path::Path;
use std::time::Instant;

use proto::engine::v1::{AsyncTask, Host};
use tests::ids::fresh;
use tests::{Context as _, TestResult, World, requests};

use crate::bare::commit::{BareStore, Batch};
use crate::bare::files::Images;
use crate::records;
use crate::rounds::Bench;
use crate::row::{Row, Unit};

const DISKS: usize = 4;

const NOTE: &str = "oVirt: 11 s on average. Bare is the disk's part: the same renames, unlinks, syncs and commits; \
                    deleting an image starts no qemu-img";

/// One line.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> TestResult<Vec<Row>> {
    let world = World::start_below(&bench.fresh_dir("remove-vm-ours")?).await?;
    let domain = world.furnish().await?;
    let rounds = bench.alternate(async |bench, number| {
        let ours = remove(&world, &domain, number).await?;
        let bare = bare(&bench.fresh_dir("remove-vm-bare")?)?;
        Ok((ours, bare))
    });
    let figures = |sample: &(f64, f64)| (sample.0, Some(sample.1));
    let row = Row::new(
        "RemoveVm, 4 disks",
        Unit::Milliseconds,
        None,
        &rounds.await?,
        figures,
    );
    Ok(vec![row.noting(NOTE)])
}

/// Milliseconds that a removal takes.
async fn remove(world: &World, domain: &str, number: usize) -> TestResult<f64> {
    let create = requests::create_vm(&format!("vm-{number}"), requests::four_disks(domain));
    world.succeeds(&world.create_vm(&create).await?).await?;
    let request = requests::remove_vm(&create.vm_id);
    let start = Instant::now();
    let command = world.remove_vm(&request).await?;
    world.succeeds(&command).await?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Milliseconds of the disk's part.
fn bare(dir: &Path) -> TestResult<f64> {
    let images = dir.join("images");
    std::fs::create_dir(&images)?;
    let images = Images::create(&images, DISKS).context("images")?;
    let mut host = Committer::create(&dir.join("host"))?;
    let mut engine = Committer::create(&dir.join("engine"))?;
    let start = Instant::now();
    engine.engine_commit()?;
    host.host_commit()?;
    host.host_commit()?;
    host.host_commit()?;
    images.set_aside().context("setting images aside")?;
    host.host_commit()?;
    images.purge().context("purging images")?;
    host.host_commit()?;
    engine.engine_commit()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// A bare store that is written to as one of the services would, for all disks at once.
struct Committer {
    store: BareStore,
}

impl Committer {
    fn create(dir: &Path) -> TestResult<Self> {
        std::fs::create_dir(dir)?;
        let mut store = BareStore::create(dir)?;
        // Tables are made by the first commit.
        store.commit(&Batch::new([records::accepted(
            0,
            &records::host_task(fresh(), None),
        )]))?;
        Ok(Self { store })
    }

    fn host_commit(&mut self) -> TestResult<()> {
        let tasks = (0..DISKS as u64).map(|slot| records::finished(slot, &records::host_task(fresh(), None)));
        self.store.commit(&Batch::new(tasks))
    }

    fn engine_commit(&mut self) -> TestResult<()> {
        let (task, host) = (AsyncTask::default(), Host::default());
        let tasks = (0..DISKS as u64).map(|slot| records::engine_revision(slot, &task, &host));
        self.store.commit(&Batch::new(tasks))
    }
}
