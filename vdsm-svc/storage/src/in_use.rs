//! Whether a process has a volume open: qemu locks bytes of its images. Our own renames and unlinks would ignore
//! these locks.

use std::fs::File;
use std::ops::ControlFlow;

use common::id::VolumeId;
use common::{Fault, FaultCode};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::file::{Dir, FileError};
use crate::names::ImageFile;

/// Bytes of an image file that are locked, as an offset and a length.
struct Bytes(libc::off_t, libc::off_t);

/// All of them: qemu locks some of these in each file that it has open.
const ALL: Bytes = Bytes(0, 0);

/// Those that qemu locks if it may write (101, 102) or resize (103); readers lock 100.
const OF_WRITERS: Bytes = Bytes(101, 3);

/// Whether anybody holds a record lock on any of these bytes of the file.
fn is_locked(file: &File, bytes: Bytes) -> nix::Result<bool> {
    let mut probe = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: bytes.0,
        l_len: bytes.1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe))?;
    Ok(probe.l_type != libc::F_UNLCK as libc::c_short)
}

/// Refuses an image if a volume of it is open in qemu. `heard` is called before each volume and may stop this.
///
/// # Errors
/// `IMAGE_IN_USE` naming the volume; those of `heard` and of the file system.
pub(crate) fn check_all(image: &Dir, heard: &dyn Fn() -> Result<(), Fault>) -> Result<(), Fault> {
    image.for_each(|entry| {
        heard()?;
        if let Some(ImageFile::Data(volume)) = ImageFile::parse(&entry.name)
            && let Some(file) = image.file(&entry.name)?
        {
            check(image, volume, &file, ALL)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Refuses a volume that a process may write to. Others may read it.
///
/// # Errors
/// `IMAGE_IN_USE` naming the volume; those of the file system.
pub(crate) fn check_writers(image: &Dir, volume: VolumeId, file: &File) -> Result<(), Fault> {
    check(image, volume, file, OF_WRITERS)
}

fn check(image: &Dir, volume: VolumeId, file: &File, bytes: Bytes) -> Result<(), Fault> {
    let locked = is_locked(file, bytes).map_err(|e| FileError {
        action: "look for locks on",
        path: image.path().join(volume.to_string()),
        source: e.into(),
    })?;
    if !locked {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::ImageInUse,
        format!("a process has volume {volume} open; stop the machine or the qemu program that uses it"),
    )
    .about(volume))
}
