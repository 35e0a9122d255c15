//! A directory that lies on another file system than the one around it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, TestResult, ensure};

/// A directory shown at a second place. It is taken from there when this is dropped.
#[derive(Debug)]
pub struct BindMount {
    at: PathBuf,
}

impl BindMount {
    /// Shows `what` at `at`, a directory too.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn make(what: &Path, at: &Path) -> TestResult<Self> {
        let output = Command::new("mount").arg("--bind").args([what, at]).output();
        let output = output.context("running mount")?;
        ensure(output.status.success(), || {
            format!(
                "mount --bind {} {}: {}",
                what.display(),
                at.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            )
        })?;
        Ok(Self { at: at.to_owned() })
    }
}

impl Drop for BindMount {
    fn drop(&mut self) {
        // A service may still have it open: then it goes with its last user.
        let ended = Command::new("umount").arg("-l").arg(&self.at).status();
        if !ended.is_ok_and(|status| status.success()) {
            eprintln!("left mounted: {}", self.at.display());
        }
    }
}
