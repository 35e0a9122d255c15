//! Files of certificates and keys: a key is readable by its user alone, and no file is overwritten by accident.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::authority::Issued;
use super::{Owner, PkiError, file};

/// The certificate, with those between it and its CA.
pub(super) const CERT: &str = "tls.crt";

/// The key of the certificate.
pub(super) const KEY: &str = "tls.key";

/// The CAs that the certificate's bearer trusts.
pub(super) const CA: &str = "ca.crt";

const DIR_MODE: u32 = 0o700;

/// The mode of parent directories that are created; a umask may narrow it.
const PARENT_MODE: u32 = 0o755;
const KEY_MODE: u32 = 0o600;
const CERT_MODE: u32 = 0o644;

/// Writes all three files into a directory, the key first: a service that reads in between finds a key and a
/// certificate that do not match, and keeps those that it has.
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

/// Makes a directory that only its user can use; an existing directory stays as it is.
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

/// Creates a file of this mode, whatever the umask is; it is on disk when the function returns.
pub(super) fn create(path: &Path, text: &str, mode: u32, owner: Option<Owner>) -> Result<(), PkiError> {
    let write = || {
        let mut new = File::options();
        // The file must never be readable by others, not for a moment.
        let mut new = new.write(true).create_new(true).mode(KEY_MODE).open(path)?;
        new.write_all(text.as_bytes())?;
        new.set_permissions(std::fs::Permissions::from_mode(mode))?;
        new.sync_all()
    };
    write().map_err(file(path))?;
    give(path, owner)
}

/// Changes the owner of a file, if one was given.
pub(super) fn give(path: &Path, owner: Option<Owner>) -> Result<(), PkiError> {
    let Some(Owner { user, group }) = owner else {
        return Ok(());
    };
    std::os::unix::fs::lchown(path, Some(user), Some(group)).map_err(file(path))
}

pub(super) fn sync(dir: &Path) -> Result<(), PkiError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(file(dir))
}
