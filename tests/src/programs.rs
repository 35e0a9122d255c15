//! Where the programs lie.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Failure, TestResult};
use crate::patience::eventually;

/// The path of a program of this workspace: beside the running one, or one folder up where that is a test,
/// which lies in `deps`.
///
/// # Errors
/// Naming the places looked at and how to build it.
pub fn program(name: &str) -> TestResult<PathBuf> {
    let own = std::env::current_exe().context("where this program lies")?;
    let beside = own.parent().context("this program lies nowhere")?;
    let folders = [Some(beside), beside.parent()];
    folders
        .into_iter()
        .flatten()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Failure::new(format!(
                "there is no {name} in {} or above it; `make test` and `make demo` build it first",
                beside.display()
            ))
        })
}

/// Writes a program that knows `--version`, and returns once it can be run: a process that another test is just starting
/// has the file open for writing until it has become its own program.
///
/// # Errors
/// When it cannot be written, or never be run.
pub async fn write_script(path: &Path, text: &str) -> TestResult<()> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
    // Whom the service runs it as must find it.
    let folder = path.parent().context("it lies nowhere")?;
    let mode = std::fs::metadata(folder)?.permissions().mode();
    std::fs::set_permissions(folder, Permissions::from_mode(mode | 0o055))?;
    let run = || match Command::new(path).arg("--version").output() {
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => None,
        outcome => Some(outcome),
    };
    let outcome = eventually("a script to be no file that is written", || {
        std::future::ready(run())
    })
    .await?;
    outcome.map(drop).context(format!("running {}", path.display()))
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
