//! A `qemu-img` that works only when a test lets it. It is confined like the real one: it sees which files are there, and
//! writes none; what it does is seen from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::failure::TestResult;
use crate::patience::eventually;
use crate::programs::write_script;

/// The subcommand after which a file `shut-…` beside it is named waits for as long as that is there. Where there is `deaf`
/// it does not hear SIGTERM. The image after which a file `broken-…` is named is not made, once there is `stranger-…` for
/// it. It is in Perl, for a child makes no processes, and a shell needs one to wait.
const PROGRAM: &str = r#"#!/usr/bin/perl
my ($here) = $0 =~ m{^(.*)/};
$SIG{TERM} = 'IGNORE' if -e "$here/deaf";
if ($ARGV[0] eq 'create') {
  my ($image) = readlink($ARGV[-2]) =~ m{([^/]+)/[^/]+$};
  if (-e "$here/broken-$image") {
    select undef, undef, undef, 0.01 until -e "$here/stranger-$image";
    exit 1;
  }
}
select undef, undef, undef, 0.02 while -e "$here/shut-$ARGV[0]";
exec 'qemu-img', @ARGV;
"#;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// What comes to stand in an image that breaks: a file's name, and what it holds.
pub const STRANGER: (&str, &[u8]) = ("stranger", b"not ours");

/// The program, and whether it may work: it may at first.
#[derive(Debug)]
pub struct Gate {
    folder: TempDir,
    over: Arc<AtomicBool>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Gate {
    /// Writes the program.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn open() -> TestResult<Self> {
        let folder = tempfile::Builder::new().prefix("gate-").tempdir()?;
        let gate = Self {
            folder,
            over: Arc::default(),
        };
        write_script(&gate.file("qemu-img"), PROGRAM).await?;
        Ok(gate)
    }

    /// Where the program is.
    pub fn program(&self) -> String {
        self.file("qemu-img").display().to_string()
    }

    /// From now on this subcommand waits: `create`, `convert` or `resize`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn shut(&self, subcommand: &str) -> TestResult<()> {
        Ok(fs::write(self.file(&format!("shut-{subcommand}")), b"")?)
    }

    /// Waits until somebody waits.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn reached(&self) -> TestResult<()> {
        let program = self.file("qemu-img");
        eventually("a program to stand still", || {
            let waits = self
                .shut_ones()
                .iter()
                .any(|verb| !at_work(&program, verb).is_empty());
            std::future::ready(waits.then_some(()))
        })
        .await
    }

    /// Whoever waits goes on.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub fn reopen(&self) -> TestResult<()> {
        for verb in self.shut_ones() {
            fs::remove_file(self.file(&format!("shut-{verb}")))?;
        }
        Ok(())
    }

    fn shut_ones(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        let verb = |name: std::ffi::OsString| Some(name.to_str()?.strip_prefix("shut-")?.to_owned());
        names.filter_map(|entry| verb(entry.file_name())).collect()
    }

    /// From now on whoever begins ends by SIGKILL only.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn deafen(&self) -> TestResult<()> {
        Ok(std::fs::write(self.file("deaf"), b"")?)
    }

    /// This image cannot be made, because [`STRANGER`] comes to stand in it. That shows only once another one of its
    /// domain is there for good, so there is something to be undone then. `images` is the directory of the domain's.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn breaks(&self, images: PathBuf, image_id: &str) -> TestResult<()> {
        fs::write(self.file(&format!("broken-{image_id}")), b"")?;
        let (program, told) = (self.file("qemu-img"), self.file(&format!("stranger-{image_id}")));
        let (over, image) = (Arc::clone(&self.over), image_id.to_owned());
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(LOOK);
                if !at_work(&program, "create").contains(&image) {
                    // The next one waits again.
                    let _ = fs::remove_file(&told);
                } else if !told.exists() && has_metadata(&images) {
                    let _ = fs::write(images.join(&image).join(STRANGER.0), STRANGER.1);
                    let _ = fs::write(&told, b"");
                }
            }
        });
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Whether an image has a volume.
fn has_metadata(images: &Path) -> bool {
    let files = |folder: &Path| {
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let mut all = files(images).flat_map(|image| files(&image).collect::<Vec<_>>());
    all.any(|file| file.extension().is_some_and(|ending| ending == "meta"))
}

/// The images of which a process of this script, which has not become `qemu-img`, works on a file.
pub fn at_work(program: &Path, subcommand: &str) -> Vec<String> {
    let line = [
        b"/usr/bin/perl",
        program.as_os_str().as_encoded_bytes(),
        subcommand.as_bytes(),
        b"",
    ]
    .join(&0);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_it =
        |process: &PathBuf| fs::read(process.join("cmdline")).is_ok_and(|found| found.starts_with(&line));
    let open = |process: PathBuf| fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    processes
        .map(|entry| entry.path())
        .filter(is_it)
        .flat_map(open)
        .filter_map(|file| {
            let file = fs::read_link(file.path()).ok()?;
            let name = file.file_name()?.to_str()?;
            let image = file.parent()?.file_name()?.to_str()?;
            // What is made has the task's name until it is whole; what is resized has its own.
            (name.starts_with(".vdsm-svc-") || subcommand == "resize").then(|| image.to_owned())
        })
        .collect()
}
