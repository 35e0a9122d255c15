//! Whether a process has a volume open: qemu holds locks on the bytes of its images. Our own renames and unlinks
//! would ignore them.

use std::fs::File;

use common::{Fault, FaultCode};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::file::{Dir, FileError};
use crate::names::ImageFile;

/// Whether anybody holds a record lock on any byte of the file.
///
/// # Errors
/// Of the file system.
fn is_locked(file: &File) -> nix::Result<bool> {
    let mut probe = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe))?;
    Ok(probe.l_type != libc::F_UNLCK as libc::c_short)
}

/// Refuses an image of which a volume is open in qemu.
///
/// # Errors
/// `IMAGE_IN_USE` naming the volume; those of the file system.
pub(crate) fn check_all(image: &Dir) -> Result<(), Fault> {
    for entry in image.entries()? {
        let Some(ImageFile::Data(volume)) = ImageFile::parse(&entry.name) else {
            continue;
        };
        let Some(file) = image.file(&entry.name)? else {
            continue;
        };
        let locked = is_locked(&file).map_err(|e| FileError {
            action: "look for locks on",
            path: image.path().join(&entry.name),
            source: e.into(),
        })?;
        if locked {
            return Err(Fault::new(
                FaultCode::ImageInUse,
                format!(
                    "a process has volume {volume} open; stop the machine or the qemu program that uses it"
                ),
            )
            .about(volume));
        }
    }
    Ok(())
}
