//! Files of certificates and keys: a key is for its user alone, and nothing is written over by accident.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::authority::Issued;
use super::{Owner, PkiError, file};

/// A certificate, with those between it and its CA.
pub(super) const CERT: &str = "tls.crt";

/// Its key.
pub(super) const KEY: &str = "tls.key";

/// The CAs that its bearer trusts.
pub(super) const CA: &str = "ca.crt";

const DIR_MODE: u32 = 0o700;

/// Of its parents that are created; a umask may make it narrower.
const PARENT_MODE: u32 = 0o755;
const KEY_MODE: u32 = 0o600;
const CERT_MODE: u32 = 0o644;

/// Puts all three into a directory. The key first: a service that looks meanwhile finds two that do not belong together, and
/// goes on with those that it has.
pub(super) fn put(dir: &Path, issued: &Issued, replace: bool, owner: Option<Owner>) -> Result<(), PkiError> {
    make_dir(dir)?;
    let all = [
        (KEY, &issued.key, KEY_MODE),
        (CERT, &issued.cert, CERT_MODE),
        (CA, &issued.ca, CERT_MODE),
    ];
    if !replace {
        for (name, ..) in all {
            let path = dir.join(name);
            if path.symlink_metadata().is_ok() {
                return Err(PkiError::Exists(path));
            }
        }
    }
    for (name, text, mode) in all {
        let path = dir.join(name);
        let aside = dir.join(format!("{name}.new"));
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(&aside)(error)),
            _ => {}
        }
        create(&aside, text, mode, owner)?;
        std::fs::rename(&aside, &path).map_err(file(&path))?;
    }
    sync(dir)?;
    give(dir, owner)
}

/// A directory that only its user can use; one that is there is taken as it is.
pub(super) fn make_dir(dir: &Path) -> Result<(), PkiError> {
    if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        let parents = DirBuilder::new().recursive(true).mode(PARENT_MODE).create(above);
        parents.map_err(file(above))?;
    }
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file(dir)(error)),
        Ok(()) => {
            let mode = std::fs::Permissions::from_mode(DIR_MODE);
            std::fs::set_permissions(dir, mode).map_err(file(dir))
        }
    }
}

/// A new file of this mode, whatever the umask is, on the disk when it returns.
pub(super) fn create(path: &Path, text: &str, mode: u32, owner: Option<Owner>) -> Result<(), PkiError> {
    let write = || {
        let mut new = File::options();
        // Never readable by others, not for a moment.
        let mut new = new.write(true).create_new(true).mode(KEY_MODE).open(path)?;
        new.write_all(text.as_bytes())?;
        new.set_permissions(std::fs::Permissions::from_mode(mode))?;
        new.sync_all()
    };
    write().map_err(file(path))?;
    give(path, owner)
}

/// Gives it to whom it is to belong.
pub(super) fn give(path: &Path, owner: Option<Owner>) -> Result<(), PkiError> {
    let Some(Owner { user, group }) = owner else {
        return Ok(());
    };
    std::os::unix::fs::lchown(path, Some(user), Some(group)).map_err(file(path))
}

pub(super) fn sync(dir: &Path) -> Result<(), PkiError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(file(dir))
}
