//! How it is, for who looks after the service on this machine: the port behind TLS is for those who have a certificate, and a
//! health check has none. The directory that the socket is in is the service's user's alone, and nothing is to be had at it but
//! whether the service serves.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use store::data_dir::HEALTH;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::Health;

const SERVING: &[u8] = b"SERVING";
const NOT_SERVING: &[u8] = b"NOT_SERVING";

/// Long enough for whoever runs at all.
const PATIENCE: Duration = Duration::from_secs(1);

/// After an accept that failed, for want of files: they come back.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct HealthSocket(UnixListener);

impl HealthSocket {
    /// Makes it, in the place of one that an earlier start left.
    pub(super) fn bind(data_dir: &Path) -> io::Result<Self> {
        let listener = listen(data_dir, HEALTH)?;
        UnixListener::from_std(listener).map(Self)
    }

    /// Answers whoever asks, one after the other.
    pub(super) async fn answer(&self, health: &Health) {
        loop {
            match self.0.accept().await {
                Ok((mut asked, _)) => {
                    let answer = if health.serving().load(Ordering::Relaxed) {
                        SERVING
                    } else {
                        NOT_SERVING
                    };
                    // Who does not take it has gone.
                    let _ = tokio::time::timeout(PATIENCE, asked.write_all(answer)).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a health check");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Asks the service over this data directory, in another process, whether it serves.
pub(crate) async fn ask(data_dir: &Path) -> io::Result<bool> {
    let (_open, path) = reached(data_dir, HEALTH)?;
    let asked = UnixStream::connect(path).await?;
    let mut answer = Vec::new();
    asked
        .take(NOT_SERVING.len() as u64)
        .read_to_end(&mut answer)
        .await?;
    match answer.as_slice() {
        SERVING => Ok(true),
        NOT_SERVING => Ok(false),
        _ => Err(io::Error::other("it ended before it had answered")),
    }
}

/// Listens at a socket in a data directory, in the place of one that an earlier start left, for the service's user alone whatever the
/// umask is. Whoever waits for it must not block.
pub(crate) fn listen(data_dir: &Path, name: &str) -> io::Result<StdListener> {
    let (_open, path) = reached(data_dir, name)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A socket in a data directory by a short name, whatever the directory's: a socket's may have 107 bytes.
pub(crate) fn reached(data_dir: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    let open = File::open(data_dir)?;
    let path = format!("/proc/self/fd/{}/{name}", open.as_raw_fd());
    Ok((open, path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_is_told_however_long_the_name_of_the_directory_is() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a".repeat(120));
        fs::create_dir(&data_dir).unwrap();
        assert!(ask(&data_dir).await.is_err(), "nobody is there");
        let health = Health::new(&["x"]).await;
        for _ in 0..2 {
            let socket = HealthSocket::bind(&data_dir).unwrap();
            let mode = fs::metadata(data_dir.join(HEALTH)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            for serves in [false, true, false] {
                health.set_serving(serves).await;
                tokio::select! {
                    told = ask(&data_dir) => assert_eq!(told.unwrap(), serves),
                    () = socket.answer(&health) => {}
                }
            }
        }
        assert!(ask(&data_dir).await.is_err(), "nobody is there any more");
    }
}
