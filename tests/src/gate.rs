//! A `qemu-img` that works only when a test lets it.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::failure::Outcome;
use crate::patience::eventually;
use crate::programs::write_script;

/// The subcommand that the file `shut` beside it names waits for as long as it does, with a process of its own, so
/// that there is a group; it says that it waits in `reached`. Where there is `deaf` it does not hear SIGTERM. The image that `broken` names is not made: once
/// another one has its metadata, what is not ours is put into it.
const PROGRAM: &str = r#"#!/bin/sh
here="${0%/*}"
[ -e "$here/deaf" ] && trap '' TERM
if [ "$1" = create ] && [ "$(basename "$(pwd -P)")" = "$(cat "$here/broken" 2>/dev/null)" ]; then
  until ls ../*/*.meta >/dev/null 2>&1; do sleep 0.01; done
  printf 'not ours' >stranger
  exit 1
fi
while [ "$(cat "$here/shut" 2>/dev/null)" = "$1" ]; do echo $$ >"$here/reached"; sleep 0.02; done
exec qemu-img "$@"
"#;

/// What comes to stand in an image that breaks: a file's name, and what it holds.
pub const STRANGER: (&str, &[u8]) = ("stranger", b"not ours");

/// The program, and whether it may work: it may at first.
#[derive(Debug)]
pub struct Gate {
    folder: TempDir,
}

impl Gate {
    /// Writes the program.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn open() -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("gate-").tempdir()?;
        let gate = Self { folder };
        write_script(&gate.file("qemu-img"), PROGRAM).await?;
        Ok(gate)
    }

    /// Where the program is.
    pub fn program(&self) -> String {
        self.file("qemu-img").display().to_string()
    }

    /// From now on this subcommand waits: `create` or `convert`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn shut(&self, subcommand: &str) -> Outcome<()> {
        Ok(std::fs::write(self.file("shut"), subcommand)?)
    }

    /// Waits until somebody waits since it was shut.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn reached(&self) -> Outcome<()> {
        let reached = self.file("reached");
        eventually("a program to stand still", || {
            std::future::ready(reached.exists().then_some(()))
        })
        .await
    }

    /// Whoever waits goes on.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub fn reopen(&self) -> Outcome<()> {
        std::fs::remove_file(self.file("shut"))?;
        let reached = std::fs::remove_file(self.file("reached"));
        // Nobody may have come.
        match reached {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// From now on whoever begins ends by SIGKILL only.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn deafen(&self) -> Outcome<()> {
        Ok(std::fs::write(self.file("deaf"), b"")?)
    }

    /// This image cannot be made, because [`STRANGER`] comes to stand in it. That shows only once another one of its
    /// domain is there for good, so there is something to be undone then.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn breaks(&self, image_id: &str) -> Outcome<()> {
        Ok(std::fs::write(self.file("broken"), image_id)?)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
