//! The two directories of a service, before anything in them is opened: its data directory and its storage root.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// The mode of a new storage root: the storage's user can pass through it, but only the service makes domains in it.
const ROOT_MODE: u32 = 0o755;

/// Makes a storage root in an existing directory, with this mode whatever the umask is. An existing root stays as it
/// is.
pub(crate) fn make_storage_root(path: &Path) -> io::Result<()> {
    // Not attempted if the root exists: storage that hangs answers no write, and the host could not even say that it
    // is loading.
    if path.is_dir() {
        return Ok(());
    }
    match DirBuilder::new().mode(ROOT_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    // Opened as a path, so that a mode that admits nobody is no obstacle; the name may lead elsewhere by now.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(path, flags, Mode::empty())?;
    let made = format!("/proc/self/fd/{}", made.as_raw_fd());
    fs::set_permissions(made, Permissions::from_mode(ROOT_MODE))
}

/// Why the two directories cannot be used together: one lies in the other. Whoever may write to storage could then
/// reach or replace the data that decides about storage.
pub(crate) fn trouble(data_dir: &Path, storage_root: &Path) -> io::Result<Option<&'static str>> {
    let (data, storage) = (resolved(data_dir)?, resolved(storage_root)?);
    Ok(if data == storage {
        Some("they are the same directory")
    } else if data.starts_with(&storage) {
        Some("the data directory is inside the storage root")
    } else if storage.starts_with(&data) {
        Some("the storage root is inside the data directory")
    } else {
        None
    })
}

/// Where a path leads, with links followed, as far as it exists.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for above in path.ancestors() {
        match above.canonicalize() {
            Ok(found) => {
                let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
                return Ok(found.join(rest));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn neither_place_lies_in_the_other_by_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("storage")).unwrap();
        symlink(at("storage"), at("link")).unwrap();
        for (data, storage, is_trouble) in [
            ("data", "storage", false),
            ("storage-data", "storage", false),
            ("storage", "storage", true),
            ("storage/data", "storage", true),
            ("link/data", "storage", true),
            ("storage/deeper/data", "link", true),
            ("data", "data/storage", true),
            ("storage", "link/storage", true),
        ] {
            let found = trouble(&at(data), &at(storage)).unwrap();
            assert_eq!(found.is_some(), is_trouble, "{data} and {storage}: {found:?}");
        }
    }

    #[test]
    fn a_storage_root_that_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        make_storage_root(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().mode() & 0o7777, ROOT_MODE);
        fs::set_permissions(&root, Permissions::from_mode(0o2770)).unwrap();
        make_storage_root(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().mode() & 0o7777, 0o2770);
        let above = folder.path().join("not/there");
        assert_eq!(
            make_storage_root(&above).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
