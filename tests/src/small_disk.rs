//! A data directory on a disk of its own, which can be filled to the last byte and given room again.

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::failure::{Context, Failure, TestResult};
use crate::loop_mount::{FileSystem, LoopMount, NoMount};
use crate::service::Service;
use crate::storage;

/// The largest piece that is taken at once, and the smallest: one of the file system's blocks.
const PIECES: (u64, u64) = (64 << 20, 1 << 10);

/// What fills it is named so.
const FILLER: &str = "filler";

/// See the module.
#[derive(Debug)]
pub struct SmallDisk {
    mount: LoopMount,
}

impl SmallDisk {
    /// Moves a service's data directory to a disk of its own. The service must not run.
    ///
    /// # Errors
    /// [`NoMount`], as for a loop mount.
    pub fn under(service: &mut Service, kind: FileSystem) -> Result<Self, NoMount> {
        let disk = Self::make(kind)?;
        disk.take_over(service).map_err(NoMount::Failed)?;
        Ok(disk)
    }

    /// Makes a disk with nothing on it.
    ///
    /// # Errors
    /// [`NoMount`], as for a loop mount.
    pub fn make(kind: FileSystem) -> Result<Self, NoMount> {
        let mount = LoopMount::make(kind)?;
        Ok(Self { mount })
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.mount.path()
    }

    fn take_over(&self, service: &mut Service) -> TestResult<()> {
        let old = service.recipe().data_dir.clone();
        let new = self.mount.path().join("data");
        storage::copy(&old, &new)?;
        std::fs::remove_dir_all(old)?;
        service.moved_to(new);
        Ok(())
    }

    /// Takes every block that is free.
    ///
    /// # Errors
    /// When it cannot be filled.
    pub fn fill(&self) -> TestResult<()> {
        let count = self.fillers()?.len();
        let path = self.mount.path().join(format!("{FILLER}-{count}"));
        let file = match File::create_new(&path) {
            // There is not even room for a file.
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            made => made.context("a file that fills the disk")?,
        };
        let (mut piece, least) = PIECES;
        let mut size = 0;
        while piece >= least {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), size, piece) {
                Ok(()) => size += piece,
                Err(Errno::NOSPC) => piece /= 2,
                Err(error) => return Err(Failure::new(format!("filling the disk: {error}"))),
            }
        }
        file.sync_all()?;
        Ok(())
    }

    /// Gives back all that [`Self::fill`] took.
    ///
    /// # Errors
    /// When it cannot.
    pub fn make_room(&self) -> TestResult<()> {
        for filler in self.fillers()? {
            // Cut first: a child that is just being started may have a copy of it, and an unlinked file keeps its blocks.
            File::options().write(true).open(&filler)?.set_len(0)?;
            std::fs::remove_file(filler)?;
        }
        self.mount.sync()
    }

    fn fillers(&self) -> TestResult<Vec<PathBuf>> {
        let names = std::fs::read_dir(self.mount.path())?.filter_map(Result::ok);
        let found = names.filter(|entry| entry.file_name().to_string_lossy().starts_with(FILLER));
        Ok(found.map(|entry| entry.path()).collect())
    }
}
