//! The source of a copy: checked before anything is done, and again before the copy is accepted.

use std::fs::File;

use common::{Fault, FaultCode, VolumeAddress, VolumeFormat};

use super::super::OpContext;
use super::super::alone;
use super::super::context::stop_if_aborted;
use crate::domain::DirectIo;
use crate::file::{Dir, FileId};
use crate::in_use;
use crate::qemu_img::argv::Input;
use crate::root::StorageRoot;
use crate::under_way::DomainDirs;
use crate::volume::{
    Guest, Legality, Qcow2Error, Qcow2Header, Tables, VolumeMeta, data_bytes, data_name, read_meta,
};

/// The number of L2 tables between two checks for an abort.
const TABLES_AT_ONCE: usize = 64;

/// An open volume that can be copied.
pub(super) struct Source {
    at: VolumeAddress,
    dirs: DomainDirs,
    image: Dir,
    file: File,
    /// The state of the file before anything was read from it.
    written: Written,
    meta: VolumeMeta,
    capacity_bytes: u64,
    direct: bool,
}

/// The properties of a file that each write changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    bytes: i64,
    seconds: i64,
    nanoseconds: i64,
}

impl Written {
    fn of(file: &File) -> std::io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Self {
            bytes: stat.st_size,
            seconds: stat.st_mtime,
            nanoseconds: i64::try_from(stat.st_mtime_nsec).unwrap_or(i64::MAX),
        })
    }
}

impl Source {
    /// Opens a volume that is the only one of its image, complete, and not open for writing.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, `IMAGE_NOT_FOUND`, `VOLUME_NOT_FOUND`; `VOLUME_METADATA_INVALID`, `NOT_A_REGULAR_FILE`;
    /// `VOLUME_ILLEGAL`; `VOLUME_IN_CHAIN`; `IMAGE_IN_USE`; `VOLUME_DATA_INVALID`; those of the file system.
    pub(super) fn open(root: &StorageRoot, at: VolumeAddress) -> Result<Self, Fault> {
        let domain = root.domain(at.domain_id)?;
        let info = domain.volume(at.image_id, at.volume_id)?;
        let image = domain.image(at.image_id)?;
        let file = image.file(data_name(&image, at.volume_id)?)?;
        let (Some(meta), Some(file)) = (info.meta, file) else {
            return Err(info.fault.unwrap_or_else(|| vanished(at)));
        };
        if let Some(fault) = info.fault {
            return Err(fault);
        }
        let name = at.volume_id.to_string();
        let written = Written::of(&file).map_err(|e| image.error("look at", name.as_ref(), e))?;
        let source = Self {
            at,
            dirs: DomainDirs::of(root, at.domain_id)?,
            image,
            file,
            written,
            capacity_bytes: u64::try_from(meta.capacity_bytes).unwrap_or(0),
            meta,
            direct: domain.direct_io() != DirectIo::Unsupported,
        };
        alone::legal(at.volume_id, &source.meta, "copy the template itself")?;
        alone::check(&source.image, at, &source.meta, info.linked, "copied")?;
        in_use::check_writers(&source.image, at.volume_id, &source.file)?;
        source.check_data()?;
        Ok(source)
    }

    /// The size that a guest sees, in bytes.
    pub(super) fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// The use of the disk.
    pub(super) fn disk_type(&self) -> &str {
        &self.meta.disk_type
    }

    /// The data of the file without holes, in bytes.
    pub(super) fn data_bytes(&self) -> Result<u64, Fault> {
        data_bytes(&self.file).map_err(|e| self.unread(e))
    }

    /// What a guest sees of it.
    pub(super) fn guest(&self) -> Result<Guest<'_>, Fault> {
        Guest::open(&self.file, self.meta.format, self.capacity_bytes).map_err(|e| self.unfit(e))
    }

    /// The fault for a file that cannot be read.
    pub(super) fn unread(&self, error: std::io::Error) -> Fault {
        let name = self.at.volume_id.to_string();
        self.image.error("read", name.as_ref(), error).into()
    }

    /// The file that was looked at.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// For the command line of a process that opens the file by this path.
    pub(super) fn input<'a>(&self, path: &'a str) -> Input<'a> {
        Input {
            format: self.meta.format,
            path,
            direct: self.direct,
        }
    }

    /// The maximum of data that a guest can see, in bytes: for a qcow2 file according to its tables, which use no
    /// cluster twice.
    ///
    /// # Errors
    /// `VOLUME_DATA_INVALID`; `ABORTED`; those of the file system.
    pub(super) fn most_bytes(&self, ctx: &dyn OpContext) -> Result<u64, Fault> {
        if self.meta.format == VolumeFormat::Raw {
            return self.data_bytes();
        }
        let header = Qcow2Header::read(&self.file).map_err(|e| self.unfit(e))?;
        let tables = Tables::read(&self.file, &header).map_err(|e| self.unfit(e))?;
        let file_bytes = self.file_len()?;
        if tables.shared() {
            return Err(self.invalid("uses a table twice"));
        }
        let (mut plain, mut compressed) = (0u64, 0u64);
        for (n, (_, offset)) in tables.second().enumerate() {
            if n % TABLES_AT_ONCE == 0 {
                stop_if_aborted(ctx)?;
            }
            let counted = tables.count_all(&self.file, offset, file_bytes);
            let counted = counted.map_err(|e| self.unread(e))?;
            let Some(counted) = counted else {
                return Err(self.invalid("is truncated: its tables refer to more than it has"));
            };
            plain += counted.plain;
            compressed += counted.compressed;
        }
        if plain > file_bytes.div_ceil(tables.cluster_bytes()) {
            return Err(
                self.invalid("uses a cluster of data twice, so a copy of it could grow without limit")
            );
        }
        Ok((plain + compressed).saturating_mul(tables.cluster_bytes()))
    }

    fn unfit(&self, error: Qcow2Error) -> Fault {
        match error {
            Qcow2Error::Io(e) => self.unread(e),
            other => self.invalid(&other.to_string()),
        }
    }

    /// Whether it is unchanged since the start: the same files with the same names, and nothing written to them.
    ///
    /// # Errors
    /// `STORAGE_REPLACED` if its whole domain was replaced; `GENERATION_MISMATCH`; those of the file system and of
    /// the metadata.
    pub(super) fn check_unchanged(&self, root: &StorageRoot) -> Result<(), Fault> {
        self.dirs.is_there(root)?;
        let now = read_meta(&self.image, self.at.volume_id)?;
        let same =
            |now: VolumeMeta| now.legality == Legality::Legal && now.generation == self.meta.generation;
        let how = if !now.is_some_and(same) {
            "was changed"
        } else if !self.is_under_its_name(root)? {
            "was replaced by another file or moved away"
        } else if Written::of(&self.file).map_err(|e| self.unread(e))? != self.written {
            "was written to"
        } else {
            return Ok(());
        };
        Err(self.fault(
            FaultCode::GenerationMismatch,
            &format!(
                "{how} while it was being copied; the copy is removed: find out what changed it, then copy it again"
            ),
        ))
    }

    /// Whether the volume's name still leads to the file that was copied.
    fn is_under_its_name(&self, root: &StorageRoot) -> Result<bool, Fault> {
        let Some((_, image)) = root.domain(self.at.domain_id)?.find_image(self.at.image_id)? else {
            return Ok(false);
        };
        let name = data_name(&image, self.at.volume_id)?;
        let file_id = FileId::of(&self.file).map_err(|e| self.unread(e.into()))?;
        Ok(image.file_id()? == self.image.file_id()? && image.file_id_of(name)? == Some(file_id))
    }

    /// Checks by ourselves that the file matches its metadata: no program gets a header that names other files.
    fn check_data(&self) -> Result<(), Fault> {
        if self.capacity_bytes == 0 {
            return Err(self.invalid(&format!(
                "has the capacity {} in its metadata",
                self.meta.capacity_bytes
            )));
        }
        let bytes = match self.meta.format {
            VolumeFormat::Raw => self.file_len()?,
            VolumeFormat::Cow => self.cow_len()?,
        };
        if bytes == self.capacity_bytes {
            return Ok(());
        }
        Err(self.invalid(&format!(
            "has {bytes} bytes, but its metadata says {}",
            self.meta.capacity_bytes
        )))
    }

    fn file_len(&self) -> Result<u64, Fault> {
        Ok(self.file.metadata().map_err(|e| self.unread(e))?.len())
    }

    fn cow_len(&self) -> Result<u64, Fault> {
        let header = Qcow2Header::read(&self.file).map_err(|e| self.invalid(&e.to_string()))?;
        match header.trouble() {
            Some(trouble) => Err(self.invalid(trouble)),
            None => Ok(header.virtual_size_bytes),
        }
    }

    fn invalid(&self, what: &str) -> Fault {
        self.fault(
            FaultCode::VolumeDataInvalid,
            &format!("{what}; it cannot be copied: check the file itself"),
        )
    }

    fn fault(&self, code: FaultCode, what: &str) -> Fault {
        let volume = self.at.volume_id;
        Fault::new(code, format!("volume {volume} {what}")).about(volume)
    }
}

fn vanished(at: VolumeAddress) -> Fault {
    Fault::new(
        FaultCode::VolumeNotFound,
        format!("volume {} disappeared while it was being read", at.volume_id),
    )
    .about(at.volume_id)
}
