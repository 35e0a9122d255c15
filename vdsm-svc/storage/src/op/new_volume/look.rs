//! A look at what qemu-img made, before it counts: through the handle that was open before the program ran, and by
//! nothing that the program said. It may have ended well and done nothing, or something else.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use common::id::VolumeId;
use common::{Fault, FaultCode, VolumeFormat};

use super::super::OpContext;
use super::super::context::stop_if_aborted;
use super::marks::Marks;
use crate::file::{Dir, Identity};
use crate::volume::{Guest, Piece, Qcow2Error, Qcow2Header, Tables};

/// Pieces that are looked at: 2 MiB at most, however large the volume is.
pub(in crate::op) const PIECES: u64 = 32;

/// The number of L2 tables between two checks for an abort.
const TABLES_AT_ONCE: usize = 64;

/// The data of a new volume while it has the task's name.
#[derive(Clone, Copy)]
pub(in crate::op) struct StagedVolume<'a> {
    /// The image's directory.
    pub(in crate::op) image: &'a Dir,
    /// The name.
    pub(in crate::op) name: &'a str,
    /// The file, open since before anything was written to it.
    pub(in crate::op) file: &'a File,
    pub(super) marks: &'a Marks,
    pub(super) volume: VolumeId,
    pub(super) format: VolumeFormat,
    pub(in crate::op) capacity_bytes: u64,
}

impl StagedVolume<'_> {
    /// Whether it is an empty volume of the form and size that were wished.
    ///
    /// # Errors
    /// `QEMU_IMG_FAILED` with what is wrong; those of the file system.
    pub(super) fn check_empty(&self, ctx: &dyn OpContext) -> Result<(), Fault> {
        self.check(ctx)?;
        let guest = self.guest()?;
        if guest.has_tables() {
            return Err(self.wrong("has data tables, but should be empty"));
        }
        for piece in guest.pieces(PIECES).map_err(|e| self.unread(e))? {
            if !self.is_zero(&guest, piece)? {
                return Err(self.wrong(&format!("has data at byte {}, but should be empty", piece.at)));
            }
        }
        Ok(())
    }

    /// Whether it is a volume of the form and size that were wished, whole, and refers to nothing.
    ///
    /// # Errors
    /// As [`StagedVolume::check_empty`].
    pub(super) fn check(&self, ctx: &dyn OpContext) -> Result<(), Fault> {
        self.identity()?;
        self.check_marks()?;
        match self.format {
            VolumeFormat::Raw => self.check_size(self.file_bytes()?),
            VolumeFormat::Cow => self.check_cow(ctx),
        }
    }

    /// Whether all its space is still taken, of which so much was taken before it was filled.
    ///
    /// # Errors
    /// As [`StagedVolume::check_empty`].
    pub(super) fn check_space(&self, taken_bytes: u64) -> Result<(), Fault> {
        let now = self.taken_bytes()?;
        // The file system takes some for itself, and may need less of that by and by.
        if now >= taken_bytes.min(self.capacity_bytes) {
            return Ok(());
        }
        Err(self.wrong(&format!(
            "takes {now} bytes of its file system, but {taken_bytes} were preallocated"
        )))
    }

    /// What it takes of its file system, in bytes.
    pub(in crate::op) fn taken_bytes(&self) -> Result<u64, Fault> {
        Ok(self.file.metadata().map_err(|e| self.unread(e))?.blocks() * 512)
    }

    /// Which file it is: the one that was made, under its name, and under no other.
    ///
    /// # Errors
    /// As [`StagedVolume::check_empty`].
    pub(super) fn identity(&self) -> Result<Identity, Fault> {
        let ours = Identity::of_open(self.file).map_err(|e| self.unread(e.into()))?;
        if self.image.identity(self.name)? != Some(ours) {
            return Err(self.wrong("was replaced by another file"));
        }
        self.has_one_name()?;
        Ok(ours)
    }

    /// Whether it stands under the volume's name by now, and under no other.
    ///
    /// # Errors
    /// As [`StagedVolume::check_empty`].
    pub(super) fn check_placed(&self) -> Result<(), Fault> {
        let ours = Identity::of_open(self.file).map_err(|e| self.unread(e.into()))?;
        if self.image.identity(self.volume.to_string())? != Some(ours) {
            return Err(self.wrong("was replaced by another file"));
        }
        self.has_one_name()
    }

    fn has_one_name(&self) -> Result<(), Fault> {
        match self.file.metadata().map_err(|e| self.unread(e))?.nlink() {
            1 => Ok(()),
            links => Err(self.wrong(&format!("has {links} names"))),
        }
    }

    /// Whether it is everybody's who it was made for, and nobody's else.
    fn check_marks(&self) -> Result<(), Fault> {
        let now = Marks::of(self.file).map_err(|e| self.unread(e))?;
        match self.marks.changed(&now) {
            None => Ok(()),
            Some(what) => Err(self.wrong(&what)),
        }
    }

    /// What a guest sees of it.
    ///
    /// # Errors
    /// As [`StagedVolume::check_empty`].
    pub(in crate::op) fn guest(&self) -> Result<Guest<'_>, Fault> {
        Guest::open(self.file, self.format, self.capacity_bytes).map_err(|e| self.broken(e))
    }

    /// The fault for a file that cannot be read.
    pub(in crate::op) fn unread(&self, error: std::io::Error) -> Fault {
        self.image.error("look at", self.name.as_ref(), error).into()
    }

    fn check_cow(&self, ctx: &dyn OpContext) -> Result<(), Fault> {
        let header = Qcow2Header::read(self.file).map_err(|e| self.broken(e))?;
        if let Some(trouble) = header.trouble_when_new() {
            return Err(self.wrong(trouble));
        }
        self.check_size(header.virtual_size_bytes)?;
        let tables = Tables::read(self.file, &header).map_err(|e| self.broken(e))?;
        self.check_tables(&tables, ctx)
    }

    /// Whether all data that the tables tell of is there, each cluster of it once.
    fn check_tables(&self, tables: &Tables, ctx: &dyn OpContext) -> Result<(), Fault> {
        let file_bytes = self.file_bytes()?;
        if tables.shared() {
            return Err(self.wrong("uses a table twice"));
        }
        let mut clusters = 0u64;
        for (n, (_, offset)) in tables.second().enumerate() {
            if n % TABLES_AT_ONCE == 0 {
                stop_if_aborted(ctx)?;
            }
            let counted = tables
                .count(self.file, offset, file_bytes)
                .map_err(|e| self.unread(e))?;
            clusters +=
                counted.ok_or_else(|| self.wrong("is truncated: its tables refer to more than it has"))?;
        }
        if clusters > file_bytes.div_ceil(tables.cluster_bytes()) {
            return Err(self.wrong("uses a cluster of data twice"));
        }
        Ok(())
    }

    fn check_size(&self, bytes: u64) -> Result<(), Fault> {
        if bytes == self.capacity_bytes {
            return Ok(());
        }
        Err(self.wrong(&format!("has {bytes} bytes instead of {}", self.capacity_bytes)))
    }

    fn is_zero(&self, guest: &Guest<'_>, piece: Piece) -> Result<bool, Fault> {
        let bytes = guest.read(piece).map_err(|e| self.unread(e))?;
        Ok(bytes.is_some_and(|b| b.iter().all(|b| *b == 0)))
    }

    pub(super) fn file_bytes(&self) -> Result<u64, Fault> {
        Ok(self.file.metadata().map_err(|e| self.unread(e))?.len())
    }

    fn broken(&self, error: Qcow2Error) -> Fault {
        match error {
            Qcow2Error::Io(e) => self.unread(e),
            other => self.wrong(&other.to_string()),
        }
    }

    fn wrong(&self, what: &str) -> Fault {
        let volume = self.volume;
        Fault::new(
            FaultCode::QemuImgFailed,
            format!(
                "qemu-img succeeded, but the file that it made for volume {volume} {what}; the file is removed: check which qemu-img is installed, and who else writes to the storage"
            ),
        )
        .about(volume)
    }
}
