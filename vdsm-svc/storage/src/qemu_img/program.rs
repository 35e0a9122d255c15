//! Finding the program.

use std::env;
use std::path::{Path, PathBuf};

use common::Fault;

use super::QemuImg;
use super::version::missing;

impl QemuImg {
    /// Its absolute path, searched each time: it may be reinstalled while the service runs.
    ///
    /// # Errors
    /// `QEMU_IMG_MISSING`.
    pub(super) fn program(&self) -> Result<PathBuf, Fault> {
        let name = &self.program;
        let not_there = || {
            missing(&format!(
                "cannot be started ({}: there is no such program)",
                name.display()
            ))
        };
        if name.components().count() > 1 || name.is_absolute() {
            let path = std::path::absolute(name).map_err(|_| not_there())?;
            return if path.is_file() {
                Ok(path)
            } else {
                Err(not_there())
            };
        }
        let folders = env::var_os("PATH").unwrap_or_default();
        let mut paths = env::split_paths(&folders).map(|folder| folder.join(name));
        paths.find(|path| is_program(path)).ok_or_else(not_there)
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.is_absolute()
        && path
            .metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
