//! Taking the space of a preallocated volume.

use std::fs::File;

use common::{Fault, FaultCode, VolumeFormat};

use super::super::OpContext;
use super::super::context::stop_if_aborted;
use crate::domain::Domain;
use crate::file::{Dir, FileError};

/// One call takes at most this much, so that an abort is heard and progress is seen.
const PIECE_BYTES: u64 = 1 << 30;

/// Where the file system cannot allocate, zeros are written in pieces of this size (VDSM's helper does the same).
const ZEROS_BYTES: usize = 8 << 20;

/// qcow2 files grow in clusters of this size, qemu's default.
const CLUSTER_BYTES: u64 = 64 << 10;

/// Refuses at once what cannot fit; `advice` is what may help beside free space.
pub(in crate::op) fn check_space(domain: &Domain, bytes: u64, advice: &str) -> Result<(), Fault> {
    let (_, free) = domain.space()?;
    if bytes <= free {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::NoSpace,
        format!(
            "the volume needs {bytes} bytes, but domain {} has only {free} bytes free; free space, {advice}",
            domain.id()
        ),
    )
    .about(domain.id()))
}

/// The space that a file takes, in bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::op) struct Space {
    /// Where it begins in the file.
    pub(in crate::op) start: u64,
    pub(in crate::op) bytes: u64,
}

impl Space {
    /// That of a new volume: a raw one's from its beginning; a qcow2 one's behind its metadata, where its data will be written
    /// (VDSM does the same).
    pub(super) fn of_new(format: VolumeFormat, capacity_bytes: u64, file_bytes: u64) -> Self {
        match format {
            VolumeFormat::Raw => Self {
                start: 0,
                bytes: capacity_bytes,
            },
            VolumeFormat::Cow => Self::behind(file_bytes, capacity_bytes),
        }
    }

    /// That of so much more data behind the end of a qcow2 file.
    pub(in crate::op) fn behind(file_bytes: u64, bytes: u64) -> Self {
        let start = file_bytes.next_multiple_of(CLUSTER_BYTES);
        Self { start, bytes }
    }

    /// Takes all of it. Says after each piece how many bytes are taken.
    pub(in crate::op) fn take(
        &self,
        (image, name, file): (&Dir, &str, &File),
        ctx: &dyn OpContext,
        taken: &dyn Fn(u64),
    ) -> Result<(), Fault> {
        let Self { start, bytes: total } = *self;
        let mut done = 0;
        let mut by_writing = false;
        while done < total {
            stop_if_aborted(ctx)?;
            let piece = if by_writing {
                ZEROS_BYTES as u64
            } else {
                PIECE_BYTES
            }
            .min(total - done);
            if by_writing {
                write_zeros(image, name, file, start + done, piece)?;
            } else {
                match image.allocate(name, file, start + done, piece) {
                    Err(e) if is_unsupported(&e) => {
                        by_writing = true;
                        continue;
                    }
                    made => made?,
                }
            }
            done += piece;
            taken(done);
        }
        Ok(())
    }
}

fn is_unsupported(error: &FileError) -> bool {
    rustix::io::Errno::from_io_error(&error.source) == Some(rustix::io::Errno::OPNOTSUPP)
}

fn write_zeros(image: &Dir, name: &str, file: &File, at: u64, bytes: u64) -> Result<(), Fault> {
    let zeros = vec![0u8; usize::try_from(bytes).unwrap_or(ZEROS_BYTES)];
    Ok(image.write_at(name, file, &zeros, at)?)
}
