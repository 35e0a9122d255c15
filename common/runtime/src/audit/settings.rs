//! The settings of the audit log, and its thread.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use clap::Args;
use rustix::fs::Access;
use store::data_dir;

use super::file::{RotatedFile, Writer};
use super::sink::Sink;
use super::trail::Trail;
use crate::threads;

/// How long a service waits at its end for the last lines: a disk that does not answer must not hold up the stop.
const LAST_LINES: Duration = Duration::from_secs(3);

// Their text is the settings' help.
#[allow(missing_docs)]
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Audit")]
pub struct AuditSettings {
    /// Audit log: a file with a line of JSON for each call that changes something, and for each call that is refused
    /// because the caller is not permitted. The file is created if it does not exist, readable for the service's user
    /// alone.
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,

    /// Size in MiB at which the audit log is renamed to FILE.1, and FILE.1 to FILE.2.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub audit_log_size: u64,

    /// Maximum number of files of the audit log, including the present one; the oldest is removed.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub audit_log_keep: u32,
}

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
#[error("the audit log {} cannot be written: give another --audit-log, or make its directory writable for the service", .path.display())]
pub struct AuditError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The audit log of a running service. Dropping it writes what waits.
pub struct AuditFile {
    sink: Arc<Sink>,
    /// Closed when the last line is written.
    ended: Receiver<()>,
}

impl AuditSettings {
    /// Opens the file that the settings name, if they name one, and starts the thread that writes it.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(&self) -> Result<Option<AuditFile>, AuditError> {
        let Some(path) = &self.audit_log else {
            return Ok(None);
        };
        let fail = |source| AuditError {
            path: path.clone(),
            source,
        };
        self.check()?;
        let file = RotatedFile::open(path, self.audit_log_size << 20, self.audit_log_keep).map_err(fail)?;
        let sink = Arc::new(Sink::default());
        let (end, ended) = mpsc::channel();
        let writer = Writer::new(file, Arc::clone(&sink));
        threads::spawn("audit".to_owned(), move || {
            writer.run();
            drop(end);
        })
        .map_err(fail)?;
        Ok(Some(AuditFile { sink, ended }))
    }

    /// The files, for readers; none if the settings name none.
    pub fn trail(&self) -> Option<Trail> {
        let path = self.audit_log.as_ref()?;
        Some(Trail::of(path, self.audit_log_keep))
    }

    /// Checks whether the file could be opened and renamed. Changes nothing.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn check(&self) -> Result<(), AuditError> {
        let Some(path) = &self.audit_log else {
            return Ok(());
        };
        could_be_written(path).map_err(|source| AuditError {
            path: path.clone(),
            source,
        })
    }
}

fn could_be_written(path: &Path) -> io::Result<()> {
    data_dir::is_writable(path)?;
    data_dir::is_of_us(path)?;
    // A rotation renames files and makes a new one.
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        Some(_) | None => Path::new("."),
    };
    if !std::fs::metadata(dir)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK)?)
}

impl AuditFile {
    /// Where entries for this file go.
    pub(super) fn sink(&self) -> Arc<Sink> {
        Arc::clone(&self.sink)
    }
}

impl Drop for AuditFile {
    fn drop(&mut self) {
        self.sink.close();
        // Both outcomes are looked at below: entries that are not written are lost, whatever the reason.
        let _ = self.ended.recv_timeout(LAST_LINES);
        let entries = self.sink.give_up();
        if entries > 0 {
            tracing::error!(
                entries,
                "the last entries of the audit log could not be written and are lost"
            );
        }
    }
}

impl fmt::Debug for AuditFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditFile").finish_non_exhaustive()
    }
}
