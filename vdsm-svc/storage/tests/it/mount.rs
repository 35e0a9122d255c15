//! Small file systems of our own, where this machine and user can mount.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// XFS refuses to be smaller than 300 MiB. The file is sparse.
const SIZE_BYTES: u64 = 320 << 20;

/// A file system in a file.
pub(crate) struct Mount {
    folder: TempDir,
}

impl Mount {
    /// None where this machine or user cannot mount.
    pub(crate) fn make(mkfs: &[&str]) -> Option<Self> {
        let mount = Self {
            folder: TempDir::new().unwrap(),
        };
        File::create(mount.image()).unwrap().set_len(SIZE_BYTES).unwrap();
        fs::create_dir(mount.path()).unwrap();
        let made = succeeds(Command::new(mkfs[0]).args(&mkfs[1..]).arg(mount.image()));
        (made && mount.mount()).then_some(mount)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    fn mount(&self) -> bool {
        succeeds(
            Command::new("mount")
                .args(["-o", "loop"])
                .args([self.image(), self.path()]),
        )
    }

    /// Children that other threads are just starting hold copies of all files for an instant.
    fn unmount(&self) -> bool {
        succeeds_when_free(Command::new("umount").arg(self.path()))
    }

    pub(crate) fn sync(&self) {
        rustix::fs::syncfs(File::open(self.path()).unwrap()).unwrap();
    }

    /// Or writable again. Nobody may have a file of it open for writing.
    pub(crate) fn make_read_only(&self, read_only: bool) {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        let mut remount = Command::new("mount");
        assert!(succeeds_when_free(remount.args(["-o", how]).arg(self.path())));
    }

    pub(crate) fn cut_power(&self) {
        assert!(succeeds(
            Command::new("xfs_io")
                .args(["-x", "-c", "shutdown"])
                .arg(self.path())
        ));
        assert!(self.unmount() && self.mount());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.unmount() {
            // Nothing of it goes away under a mount.
            self.folder.disable_cleanup(true);
        }
    }
}

/// A process that another test is just starting has a copy of every open file until it has become its program.
fn succeeds_when_free(command: &mut Command) -> bool {
    (0..100).any(|_| {
        succeeds(command) || {
            thread::sleep(Duration::from_millis(20));
            false
        }
    })
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|o| o.status.success())
}

/// Says so past the test runner's capture, so that skips are seen and counted.
pub(crate) fn skipped(what: &str) {
    let _ = writeln!(io::stdout(), "skipped: {what} (needs root and loop devices)");
}
