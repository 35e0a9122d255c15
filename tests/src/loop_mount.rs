//! A file system of its own in a file, on which power can be cut.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::failure::{Context, Failure, TestResult, ensure};

/// A few data directories and domains fit into it; XFS refuses to be smaller than 300 MiB. The file is sparse.
const SIZE_BYTES: u64 = 1 << 30;

/// How long something else may be busy on it, and how often that is looked at.
const BUSY: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(20);

/// The file systems that the host's storage may lie on in these tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// With reflinks.
    Xfs,
    /// With its usual options.
    Ext4,
}

impl FileSystem {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
        }
    }

    fn make(self, image: &Path) -> TestResult<()> {
        let image = image.to_string_lossy();
        match self {
            Self::Xfs => run("mkfs.xfs", &["-q", "-f", &image]),
            Self::Ext4 => run("mkfs.ext4", &["-q", "-F", &image]),
        }
    }
}

/// A mounted file system. It is unmounted when this is dropped.
#[derive(Debug)]
pub struct LoopMount {
    folder: TempDir,
    mounted: bool,
    frozen: bool,
}

/// Why there is no mount.
#[derive(Debug)]
pub enum NoMount {
    /// This machine or user cannot make one: the test is to be skipped, and that counted.
    Skip(String),
    /// Something went wrong.
    Failed(Failure),
}

impl LoopMount {
    /// Makes a file system and mounts it.
    ///
    /// # Errors
    /// [`NoMount::Skip`] where this needs more rights or programs than there are.
    pub fn make(kind: FileSystem) -> Result<Self, NoMount> {
        if !rustix::process::geteuid().is_root() {
            return Err(NoMount::Skip("mounting needs root".to_owned()));
        }
        let folder = tempfile::Builder::new()
            .prefix("loop-")
            .tempdir()
            .map_err(|error| NoMount::Failed(error.into()))?;
        let mut mount = Self {
            folder,
            mounted: false,
            frozen: false,
        };
        mount.prepare(kind).map_err(NoMount::Failed)?;
        // A container may have root and still no loop devices.
        mount
            .mount()
            .map_err(|failure| NoMount::Skip(failure.to_string()))?;
        Ok(mount)
    }

    fn prepare(&self, kind: FileSystem) -> TestResult<()> {
        let file = std::fs::File::create(self.image())?;
        file.set_len(SIZE_BYTES)?;
        kind.make(&self.image())?;
        std::fs::create_dir(self.path())?;
        Ok(())
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&mut self) -> TestResult<()> {
        let (image, path) = (self.image(), self.path());
        run(
            "mount",
            &["-o", "loop", &image.to_string_lossy(), &path.to_string_lossy()],
        )?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> TestResult<()> {
        run_when_free("umount", &[&self.path().to_string_lossy()])?;
        self.mounted = false;
        Ok(())
    }

    /// Writes back all that is dirty.
    ///
    /// # Errors
    /// When the program fails.
    pub fn sync(&self) -> TestResult<()> {
        run("sync", &["-f", &self.path().to_string_lossy()])
    }

    /// Makes it read-only, or writable again. Nobody may have a file of it open for writing.
    ///
    /// # Errors
    /// When the program fails.
    pub fn make_read_only(&self, read_only: bool) -> TestResult<()> {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        run_when_free("mount", &["-o", how, &self.path().to_string_lossy()])
    }

    /// Has it turn read-only by itself, as after an error of its disk, whoever works on it. It must be mounted anew
    /// afterwards. Only for [`FileSystem::Ext4`].
    ///
    /// # Errors
    /// When the program fails.
    pub fn fall_read_only(&self) -> TestResult<()> {
        run("mount", &["-o", "remount,abort", &self.path().to_string_lossy()])
    }

    /// Mounts it anew. Nobody may have a file of it open.
    ///
    /// # Errors
    /// When it cannot be unmounted or mounted.
    pub fn mount_anew(&mut self) -> TestResult<()> {
        self.unmount()?;
        self.mount()
    }

    /// Has every write to it hang, as where a disk no longer answers, until [`LoopMount::thaw`].
    ///
    /// # Errors
    /// When the program fails.
    pub fn freeze(&mut self) -> TestResult<()> {
        run("fsfreeze", &["--freeze", &self.path().to_string_lossy()])?;
        self.frozen = true;
        Ok(())
    }

    /// Lets every write go on.
    ///
    /// # Errors
    /// When the program fails.
    pub fn thaw(&mut self) -> TestResult<()> {
        run("fsfreeze", &["--unfreeze", &self.path().to_string_lossy()])?;
        self.frozen = false;
        Ok(())
    }

    /// Cuts the power: what was not synced is lost. Nobody may have a file of it open.
    ///
    /// # Errors
    /// When the file system cannot be shut down or mounted again.
    pub fn cut_power(&mut self) -> TestResult<()> {
        run(
            "xfs_io",
            &["-x", "-c", "shutdown", &self.path().to_string_lossy()],
        )?;
        self.unmount()?;
        self.mount()
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        // Whoever hangs in a write cannot even be killed.
        if self.frozen
            && let Err(failure) = self.thaw()
        {
            eprintln!("left frozen: {failure}");
        }
        // A service that was just killed may still hold a file: then the mount goes with its last user.
        let path = self.path();
        if self.mounted && self.unmount().is_err() && run("umount", &["-l", &path.to_string_lossy()]).is_err()
        {
            eprintln!("left mounted: {}", path.display());
            self.folder.disable_cleanup(true);
        }
    }
}

/// A process that another test is just starting has a copy of every open file until it has become its program.
fn run_when_free(program: &str, arguments: &[&str]) -> TestResult<()> {
    let end = Instant::now() + BUSY;
    loop {
        match run(program, arguments) {
            Err(failure) if failure.to_string().contains("busy") && Instant::now() < end => {
                std::thread::sleep(GLANCE);
            }
            outcome => return outcome,
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> TestResult<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .context(format!("running {program}"))?;
    ensure(output.status.success(), || {
        format!(
            "{program} {} ended with {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )
    })
}
