//! The private files of a service: its data directory and its content. They decide about everybody's disks, so nobody
//! else may read or write them. This module is the only way to them.
//!
//! - The directory has the mode 0700 and each file 0600, whatever the umask is. A wider mode is tightened, and the
//!   log says so.
//! - All of them belong to the service's user; others are refused.
//! - No link is followed, and only regular files with a single name are opened: through a link the service could
//!   write to another file.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fchmod, fstat, lstat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// The file in a data directory that holds `address:port` while its service listens: written by the service, and no
/// part of the store.
pub const ADDRESS: &str = "address";

/// The same of the port for metrics, where there is one.
pub const METRICS_ADDRESS: &str = "metrics-address";

/// The socket in a data directory on which a service with TLS reports its health. Like [`ADDRESS`], no part of the
/// store.
pub const HEALTH: &str = "health";

/// The socket in a data directory at which backups of a running service are taken. Like [`ADDRESS`], no part of the store.
pub const BACKUP: &str = "backup";

/// Accessible only to the service's user.
const DIR_MODE: u32 = 0o700;

/// Of its parents that are created; a umask may make it narrower.
const PARENT_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o600;

/// The permission bits of a mode.
const MODE_BITS: u32 = 0o7777;

/// Creates a data directory, with its parents, or uses an existing one.
///
/// # Errors
/// With a message for people: it belongs to another user, is a link, or is not a directory.
pub fn make(path: &Path) -> io::Result<()> {
    // With a trailing separator, a link would be followed.
    let path = &path.components().collect::<PathBuf>();
    // Nobody else may swap what is below them.
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(PARENT_MODE)
            .create(above)?;
    }
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let opened = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOTDIR | Errno::LOOP) if path.is_symlink() => wrong(
            "is a symbolic link, which somebody could redirect; give the directory itself as --data-dir",
        ),
        Some(Errno::NOTDIR) => wrong("is not a directory; give another --data-dir"),
        _ => error,
    })?;
    let stat = fstat(&opened)?;
    is_ours(path, &stat)?;
    let found = stat.st_mode & MODE_BITS;
    if found & !DIR_MODE != 0 && !is_a_data_directory(path)? {
        return Err(wrong(&format!(
            "others can access it (mode {found:04o}), and it has files that do not belong to a data directory; give a directory of its own as --data-dir, or, if it is one, `chmod 700 {}`",
            path.display()
        )));
    }
    tighten(path, &opened, &stat, DIR_MODE)
}

/// Whether it is already a data directory, or has nothing in it that belongs to others: only then may we change its
/// mode, and not that of a directory such as `/tmp`.
fn is_a_data_directory(path: &Path) -> io::Result<bool> {
    if path.join("manifest").symlink_metadata().is_ok() {
        return Ok(true);
    }
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        // A store that lost its manifest; opening it gives a better message.
        if name.to_string_lossy().starts_with("store.") {
            return Ok(true);
        }
        if ![
            "lost+found",
            "lock",
            ADDRESS,
            HEALTH,
            BACKUP,
            METRICS_ADDRESS,
            "manifest.new",
        ]
        .iter()
        .any(|known| name == *known)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

const LINK: &str = "is a symbolic link, and the service follows none in its data directory; put the file itself there, or \
                    remove the link";
const NO_FILE: &str = "is not a regular file; remove it";

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only. Nothing is changed, and anybody who can read the file may use this.
    Read,
    /// Write only; the file is created if it does not exist.
    Write,
    /// Read and write; the file is created if it does not exist.
    ReadWrite,
}

/// Opens a file of a data directory.
///
/// # Errors
/// With a message for people if it is not a file of ours: a link, not a regular file, or another user's.
pub fn open(path: &Path, access: Access) -> io::Result<File> {
    open_with(path, access, OFlags::empty())
}

/// As [`open`], with additional flags.
///
/// # Errors
/// As [`open`]; `EINVAL` if the file system does not support the flags.
pub fn open_with(path: &Path, access: Access, flags: OFlags) -> io::Result<File> {
    let mut options = options(flags);
    match access {
        Access::Read => options.read(true),
        Access::Write => options.write(true).create(true).truncate(false),
        Access::ReadWrite => options.read(true).write(true).create(true).truncate(false),
    };
    let opened = options
        .open(path)
        .map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => wrong(LINK),
            Some(Errno::NXIO | Errno::ISDIR) => wrong(NO_FILE),
            _ => error,
        })?;
    let stat = fstat(&opened)?;
    is_a_file(&stat)?;
    if access != Access::Read {
        is_ours(path, &stat)?;
        has_one_name(&stat)?;
        tighten(path, &opened, &stat, FILE_MODE)?;
    }
    Ok(opened)
}

/// Checks whether a file of a data directory can be written or created. Nothing is opened or changed.
///
/// # Errors
/// As [`open`] for writing, except for the owner.
pub fn is_writable(path: &Path) -> io::Result<()> {
    let Some(stat) = found(path)? else { return Ok(()) };
    is_a_file(&stat)?;
    has_one_name(&stat)
}

/// Checks whether it can be replaced or removed, whatever it leads to.
///
/// # Errors
/// If it is a directory.
pub fn is_replaceable(path: &Path) -> io::Result<()> {
    match found(path)? {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Err(wrong(NO_FILE)),
        _ => Ok(()),
    }
}

/// Checks whether it belongs to the service's user, or does not exist.
///
/// # Errors
/// As [`open`].
pub fn is_of_us(path: &Path) -> io::Result<()> {
    found(path)?.map_or(Ok(()), |stat| is_ours(path, &stat))
}

/// Creates a new file, replacing the remains of an earlier attempt.
///
/// # Errors
/// [`io::Error`].
pub fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let opened = options(OFlags::empty()).write(true).create_new(true).open(path)?;
    fchmod(&opened, Mode::from_raw_mode(FILE_MODE))?;
    Ok(opened)
}

/// Writes where something listens to a file in a data directory, by rename: who reads the file finds it whole.
///
/// # Errors
/// [`io::Error`].
pub fn write_address(dir: &Path, file: &str, address: SocketAddr) -> io::Result<()> {
    let temporary = dir.join(format!("{file}.new"));
    create(&temporary)?.write_all(format!("{address}\n").as_bytes())?;
    std::fs::rename(&temporary, dir.join(file))
}

/// The beginning of a short file.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path, Access::Read)?.take(at_most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn options(flags: OFlags) -> OpenOptions {
    // A special file must not make the service wait for another program.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = File::options();
    options.mode(FILE_MODE).custom_flags(flags.bits().cast_signed());
    options
}

fn found(path: &Path) -> io::Result<Option<Stat>> {
    match lstat(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_a_file(stat: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(wrong(LINK)),
        _ => Err(wrong(NO_FILE)),
    }
}

fn has_one_name(stat: &Stat) -> io::Result<()> {
    match stat.st_nlink {
        0 | 1 => Ok(()),
        _ => Err(wrong(
            "has a second name (a hard link); replace it by a copy of its own",
        )),
    }
}

fn is_ours(path: &Path, stat: &Stat) -> io::Result<()> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    if stat.st_uid == user {
        return Ok(());
    }
    Err(wrong(&format!(
        "belongs to user {} and group {}, but the service runs as user {user} and group {group}: run it as their user, or \
         `chown -R {user}:{group} {}`",
        stat.st_uid,
        stat.st_gid,
        path.display()
    )))
}

/// Removes the permissions of others.
fn tighten(path: &Path, opened: &File, stat: &Stat, mode: u32) -> io::Result<()> {
    let found = stat.st_mode & MODE_BITS;
    if found == mode {
        return Ok(());
    }
    fchmod(opened, Mode::from_raw_mode(mode))?;
    if found & !mode != 0 {
        tracing::warn!(
            path = %path.display(),
            "others could access it (mode {found:04o}); now only the service's user can ({mode:04o})"
        );
    }
    Ok(())
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & MODE_BITS
    }

    fn allow(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_the_services_user_reaches_what_is_made_and_what_was_open_is_tightened() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("above/data");
        make(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        let file = data.join("file");
        for access in [Access::Write, Access::ReadWrite] {
            drop(open(&file, access).unwrap());
            assert_eq!(mode(&file), 0o600);
            for wide in [0o666, 0o640, 0o4700, 0o400] {
                allow(&file, wide);
                // The test may run as somebody to whom modes mean something.
                if let Ok(opened) = open(&file, access) {
                    drop(opened);
                    assert_eq!(mode(&file), 0o600, "{wide:o}");
                }
            }
            fs::remove_file(&file).unwrap();
        }
        for wide in [0o777, 0o755, 0o2770] {
            allow(&data, wide);
            make(&data).unwrap();
            assert_eq!(mode(&data), 0o700, "{wide:o}");
        }
        drop(create(&file).unwrap());
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn nobody_else_may_write_to_the_parents_that_are_created() {
        let folder = tempfile::tempdir().unwrap();
        let before = rustix::process::umask(Mode::empty());
        let made = make(&folder.path().join("a/b/data"));
        rustix::process::umask(before);
        made.unwrap();
        for parent in ["a", "a/b"] {
            assert_eq!(mode(&folder.path().join(parent)), 0o755, "{parent}");
        }
    }

    #[test]
    fn a_data_directory_is_no_link_and_may_lie_behind_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("there")).unwrap();
        symlink(at("there"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        for name in ["link", "link/", "link/.", "dangling"] {
            let words = make(&at(name)).unwrap_err().to_string();
            assert!(words.contains("is a symbolic link"), "{name}: {words}");
        }
        assert!(!at("nowhere").exists());
        make(&at("link/data")).unwrap();
        assert_eq!(mode(&at("there/data")), 0o700);
    }

    #[test]
    fn the_mode_of_a_directory_that_others_use_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("somebody's"), "").unwrap();
        allow(&shared, 0o1777);
        let words = make(&shared).unwrap_err().to_string();
        assert!(words.contains("mode 1777"), "{words}");
        assert_eq!(mode(&shared), 0o1777);
        fs::write(shared.join("manifest"), "").unwrap();
        make(&shared).unwrap();
        assert_eq!(mode(&shared), 0o700);
    }

    #[test]
    fn who_only_reads_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "text").unwrap();
        allow(&file, 0o644);
        assert_eq!(read(&file, 2).unwrap(), b"te");
        assert_eq!(mode(&file), 0o644);
    }

    #[test]
    fn no_link_is_followed_and_nothing_but_a_file_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), "as it was").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        fs::hard_link(at("victim"), at("hard")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), Mode::from_raw_mode(0o600)).unwrap();
        for name in ["link", "dangling", "hard", "dir", "fifo"] {
            let words = is_writable(&at(name)).unwrap_err().to_string();
            for access in [Access::Write, Access::ReadWrite] {
                assert_eq!(open(&at(name), access).unwrap_err().to_string(), words, "{name}");
            }
            assert_eq!(is_replaceable(&at(name)).is_err(), name == "dir", "{name}");
        }
        for well in ["nothing", "victim"] {
            assert_eq!(is_writable(&at(well)).is_ok(), well == "nothing", "{well}");
            assert!(is_replaceable(&at(well)).is_ok());
        }
        for name in ["link", "dangling", "dir", "fifo"] {
            assert!(open(&at(name), Access::Read).is_err(), "{name}");
        }
        assert!(!at("nothing").exists());
        // What is made anew replaces the link, and not what it leads to.
        io::Write::write_all(&mut create(&at("link")).unwrap(), b"new").unwrap();
        assert_eq!(fs::read(at("victim")).unwrap(), b"as it was");
        assert_eq!(fs::read(at("link")).unwrap(), b"new");
    }

    #[test]
    fn what_is_another_users_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        make(&data).unwrap();
        let file = data.join("file");
        drop(create(&file).unwrap());
        // Only root can give things away; without that there is no such thing to be refused.
        if std::os::unix::fs::chown(&data, Some(36), Some(36)).is_err() {
            return;
        }
        std::os::unix::fs::chown(&file, Some(36), Some(36)).unwrap();
        for refused in [
            make(&data).unwrap_err(),
            open(&file, Access::ReadWrite).unwrap_err(),
        ] {
            let words = refused.to_string();
            let ours = format!("chown -R {}:{} ", geteuid().as_raw(), getegid().as_raw());
            assert!(
                words.contains("user 36 and group 36") && words.contains(&ours),
                "{words}"
            );
        }
        assert!(open(&file, Access::Read).is_ok(), "whoever may read it may look");
    }
}
