//! What is measured, one thing a file.

pub(crate) mod beside_etcd;
pub(crate) mod copy_disk;
pub(crate) mod front_door;
pub(crate) mod hot_path;
pub(crate) mod neighbours;
pub(crate) mod remove_vm;
pub(crate) mod restart;
pub(crate) mod screen;
pub(crate) mod watches;

use tests::TestResult;

use crate::rounds::Bench;
use crate::row::Row;

/// A measure by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Measure {
    /// State edges from hosts' streams through the engine to a watcher.
    HotPath,
    /// StartTask on a host.
    FrontDoor,
    /// From a host's state edge to an engine client's screen.
    Screen,
    /// RemoveVm with four disks.
    RemoveVm,
    /// Kill -9 of the engine, and back.
    Restart,
    /// CopyDisk of 4 GiB.
    CopyDisk,
    /// What those who watch cost.
    Watches,
    /// Beside a hung host, and a watcher that does not read.
    Neighbours,
    /// Side by side with etcd.
    Etcd,
}

impl Measure {
    /// Takes it.
    ///
    /// # Errors
    /// Where something of it fails.
    pub(crate) async fn take(self, bench: &mut Bench) -> TestResult<Vec<Row>> {
        match self {
            Self::HotPath => hot_path::measure(bench).await,
            Self::FrontDoor => front_door::measure(bench).await,
            Self::Screen => screen::measure(bench).await,
            Self::RemoveVm => remove_vm::measure(bench).await,
            Self::Restart => restart::measure(bench).await,
            Self::CopyDisk => copy_disk::measure(bench).await,
            Self::Watches => watches::measure(bench).await,
            Self::Neighbours => neighbours::measure(bench).await,
            Self::Etcd => beside_etcd::measure(bench).await,
        }
    }
}
