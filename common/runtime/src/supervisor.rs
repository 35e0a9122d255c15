//! What the service's supervisor is told where that is systemd (sd_notify(3)): that it serves, that it stops, and
//! that it lives.
//!
//! A supervisor that asks for signs of life ends the service where these stay out, and starts it again. They say that
//! the threads turn by which all is served, and no more: a disk that hangs does not become better by another start,
//! and is told by health and metrics.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The supervisor of this process, of which there is one.
static SUPERVISOR: OnceLock<Supervisor> = OnceLock::new();

struct Supervisor {
    socket: UnixDatagram,
    /// That the service is ready, which is told once.
    is_told: AtomicBool,
}

/// Finds the supervisor, by the environment, and gives it signs of life if it wants them. Within a tokio runtime,
/// once. Whoever is started without one is told to nobody.
pub fn connect() {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let socket = match open(&name) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, ?name, "the supervisor that NOTIFY_SOCKET names cannot be told anything");
            return;
        }
    };
    let supervisor = Supervisor {
        socket,
        is_told: AtomicBool::new(false),
    };
    // The first one stays.
    if SUPERVISOR.set(supervisor).is_ok()
        && let Some(every) = asked_for(&|name| std::env::var(name).ok(), std::process::id())
    {
        tokio::spawn(async move {
            loop {
                send("WATCHDOG=1");
                tokio::time::sleep(every).await;
            }
        });
    }
}

/// The service serves, or does not.
pub(crate) fn serves(serving: bool) {
    let Some(supervisor) = SUPERVISOR.get() else {
        return;
    };
    let was_ready = supervisor.is_told.fetch_or(serving, Ordering::Relaxed);
    match (serving, was_ready) {
        (true, false) => send("READY=1\nSTATUS=serving"),
        (true, true) => send("STATUS=serving"),
        (false, true) => send("STATUS=not serving: --health and the log say why"),
        (false, false) => send("STATUS=loading"),
    }
}

/// The service is stopping.
pub(crate) fn stops() {
    send("STOPPING=1\nSTATUS=stopping");
}

fn send(text: &str) {
    if let Some(supervisor) = SUPERVISOR.get() {
        // Who does not listen, or not fast enough, is told the next time.
        let _ = supervisor.socket.send(text.as_bytes());
    }
}

/// A name that begins with @ is none of a file.
fn open(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // Nothing waits for a supervisor.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// How often signs of life are given, where this process is asked for them: twice in the time after which it counts
/// as dead.
fn asked_for(variable: &dyn Fn(&str) -> Option<String>, process: u32) -> Option<Duration> {
    let micros: u64 = variable("WATCHDOG_USEC")?
        .parse()
        .ok()
        .filter(|micros| *micros > 0)?;
    let is_this = match variable("WATCHDOG_PID") {
        Some(pid) => pid.parse() == Ok(process),
        None => true,
    };
    is_this.then(|| Duration::from_micros(micros / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_are_given_to_who_asks_this_process_for_them() {
        let asked = |usec: Option<&str>, pid: Option<&str>| {
            let variable = |name: &str| match name {
                "WATCHDOG_USEC" => usec.map(str::to_owned),
                _ => pid.map(str::to_owned),
            };
            asked_for(&variable, 7)
        };
        assert_eq!(asked(Some("3000000"), None), Some(Duration::from_millis(1_500)));
        assert_eq!(
            asked(Some("3000000"), Some("7")),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(asked(Some("3000000"), Some("8")), None);
        for none in [None, Some("0"), Some("soon")] {
            assert_eq!(asked(none, None), None);
        }
    }

    #[test]
    fn a_supervisor_is_found_by_a_file_and_by_a_name_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listens = UnixDatagram::bind(&path).unwrap();
        open(path.as_os_str()).unwrap().send(b"READY=1").unwrap();
        let mut heard = [0; 16];
        assert_eq!(listens.recv(&mut heard).unwrap(), 7);
        let name = format!("vdsm-engine-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listens = UnixDatagram::bind_addr(&address).unwrap();
        open(OsStr::new(&format!("@{name}")))
            .unwrap()
            .send(b"STOPPING=1")
            .unwrap();
        assert_eq!(listens.recv(&mut heard).unwrap(), 10);
        assert!(open(OsStr::new("/nonexistent/notify")).is_err());
    }
}
