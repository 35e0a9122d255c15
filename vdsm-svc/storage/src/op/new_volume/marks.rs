//! What of a file a program could change beside its bytes, and has no business with.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::buffer::spare_capacity;
use rustix::fs::{fgetxattr, flistxattr};
use rustix::io::Errno;

/// The most that Linux gives of a list of names, or of a value, in bytes.
const XATTR_MAX_BYTES: usize = 64 << 10;

/// The bits of a mode that say who may do what.
const MODE_BITS: u32 = 0o7777;

/// Who may do more than the mode says.
const ACL: &str = "system.posix_acl_access";

/// Attributes that everybody may set who may write to a file. Of the others some are set by the system at any time.
const OF_USERS: &str = "user.";

/// As a file was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks {
    mode: u32,
    owner: (u32, u32),
    acl: Option<Vec<u8>>,
    /// Sorted.
    names: Vec<String>,
}

impl Marks {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let mut names = names(file)?;
        let acl = if names.iter().any(|name| name == ACL) {
            value(file, ACL)?
        } else {
            None
        };
        names.retain(|name| name.starts_with(OF_USERS));
        names.sort();
        Ok(Self {
            mode: found.mode() & MODE_BITS,
            owner: (found.uid(), found.gid()),
            acl,
            names,
        })
    }

    /// What became of them, in words about the file; none if it has them still.
    pub(super) fn changed(&self, now: &Self) -> Option<String> {
        let (mode, owner) = (self.mode, self.owner);
        if now.mode != mode {
            return Some(format!(
                "has the mode {:04o}, but was created with {mode:04o}",
                now.mode
            ));
        }
        if now.owner != owner {
            let ((uid, gid), (new_uid, new_gid)) = (owner, now.owner);
            return Some(format!(
                "belongs to {new_uid}:{new_gid}, but was created for {uid}:{gid}"
            ));
        }
        if now.acl != self.acl {
            return Some("has another access control list than it was created with".to_owned());
        }
        let new = now.names.iter().find(|name| !self.names.contains(name));
        new.map(|name| format!("has the attribute {name}, but was created without it"))
    }
}

/// None where the file system has no attributes.
fn names(file: &File) -> io::Result<Vec<String>> {
    let mut list = Vec::with_capacity(XATTR_MAX_BYTES);
    match flistxattr(file, spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    }
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect())
}

fn value(file: &File, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = Vec::with_capacity(XATTR_MAX_BYTES);
    match fgetxattr(file, name, spare_capacity(&mut value)) {
        Ok(_) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
