//! Backups of a service that runs. Whoever may read the data directory takes one at a socket in it: a backup holds all that the
//! directory holds, keys included, so it is neither for the port nor for a role.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use store::data_dir::BACKUP;
use store::disk::{self, Backup, Owner};
use store::{Store, StoreError};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::server::{listen, reached};
use crate::threads;

/// How long whoever takes a backup may read nothing. While one is taken, the pages that it shows are not used again.
const STALLED: Duration = Duration::from_secs(30);

/// After an accept that failed, for want of files: they come back.
const PAUSE: Duration = Duration::from_secs(1);

/// The socket of a service that runs. One backup is taken at a time.
#[derive(Debug)]
pub struct Door {
    accepting: JoinHandle<()>,
    /// Who takes a backup now.
    taken_by: Arc<Mutex<Option<UnixStream>>>,
}

impl Door {
    /// Opens it, in the place of one that an earlier start left. Within a tokio runtime. If the door cannot be opened the log says so, and the
    /// service goes on without.
    pub fn open(data_dir: &Path, store: &Arc<dyn Store>) -> Option<Self> {
        let bound = listen(data_dir, BACKUP).and_then(UnixListener::from_std);
        let listener = bound
            .inspect_err(|error| {
                tracing::warn!(%error, "no backup can be taken while the service runs: the socket for that, in its data directory, cannot be made");
            })
            .ok()?;
        let taken_by = Arc::default();
        let accepting = tokio::spawn(accept(listener, Arc::downgrade(store), Arc::clone(&taken_by)));
        Some(Self { accepting, taken_by })
    }

    /// Closes it. A backup that is being taken is cut off, and whoever takes it notices.
    pub async fn close(self) {
        let taken_by = self
            .taken_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(stream) = taken_by {
            // It may have gone.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

async fn accept(listener: UnixListener, store: Weak<dyn Store>, taken_by: Arc<Mutex<Option<UnixStream>>>) {
    loop {
        let given = async {
            let stream = listener.accept().await?.0.into_std()?;
            stream.set_nonblocking(false)?;
            stream.set_write_timeout(Some(STALLED))?;
            let ours = stream.try_clone()?;
            *taken_by.lock().unwrap_or_else(PoisonError::into_inner) = Some(ours);
            let store = store.clone();
            let given = threads::blocking(move || give(&store, stream)).await;
            taken_by.lock().unwrap_or_else(PoisonError::into_inner).take();
            given.map_err(io::Error::other)
        };
        if let Err(error) = given.await {
            tracing::warn!(%error, "a backup was not taken");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn give(store: &Weak<dyn Store>, stream: UnixStream) {
    let Some(store) = store.upgrade() else {
        return;
    };
    let mut stream = io::BufWriter::new(stream);
    match store.back_up(&mut stream) {
        Ok(()) => tracing::info!("a backup was taken"),
        Err(error) => tracing::warn!(%error, "a backup was not taken to its end"),
    }
}

/// Writes a backup of a data directory into a new file: of the service that runs over it, or else of the directory itself. The
/// file is there once it is whole and durable.
///
/// # Errors
/// [`StoreError`] if the file exists or cannot be written, the directory cannot be read, or what came is not whole.
pub fn take(data_dir: &Path, owner: Owner, into: &Path) -> Result<Backup, StoreError> {
    let failed = |path: &Path, error: &io::Error| StoreError::Backup(format!("{}: {error}", path.display()));
    if into.symlink_metadata().is_ok() {
        let words = "is there already, and is not replaced: name a new file";
        return Err(StoreError::Backup(format!("{} {words}", into.display())));
    }
    let draft = draft_of(into);
    let _removed = Draft(&draft);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft);
    let mut file = made.map_err(|error| failed(&draft, &error))?;
    match connect(data_dir) {
        Ok(mut stream) => io::copy(&mut stream, &mut file)
            .map(drop)
            .map_err(|error| failed(&draft, &error))?,
        // Nobody is there, or one that was killed left its socket.
        Err(_) => {
            let mut out = io::BufWriter::new(&mut file);
            disk::back_up_stopped(data_dir, owner, &mut out)?;
            out.flush().map_err(|error| failed(&draft, &error))?;
        }
    }
    file.sync_all().map_err(|error| failed(&draft, &error))?;
    Backup::open(&draft, owner)?;
    let placed = fs::hard_link(&draft, into).and_then(|()| {
        let folder = into.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    });
    placed.map_err(|error| failed(into, &error))?;
    Backup::open(into, owner)
}

fn connect(data_dir: &Path) -> io::Result<UnixStream> {
    let (_open, path) = reached(data_dir, BACKUP)?;
    UnixStream::connect(path)
}

fn draft_of(into: &Path) -> PathBuf {
    let mut name = into.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    name.into()
}

/// Removes the file at the end, whatever came.
struct Draft<'a>(&'a Path);

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}
