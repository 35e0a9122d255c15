//! Points at which tests kill the process. Compiled in only with the feature `failpoints`.
//!
//! | variable | effect |
//! |---|---|
//! | `FAILPOINT_KILL=<name>@<n>` | SIGKILL at the `n`th hit of the point (1 is the first) |
//! | `FAILPOINT_TRACE=<file>` | each hit appends the point's name as a line |
//! | `FAILPOINT_CLOCK=<file>` | the wall clock is as many seconds ahead as the file says at that moment, or behind where that is negative |
//! | `FAILPOINT_BATCH=1` | the coordinator takes one input a batch, so that every point between two is reached |

/// The process passes the point `name`.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    enabled::hit(name);
}

/// The process passes the point `name`: nothing happens in this build.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// Whether a hit can have an effect: if not, a caller need not even build the name.
pub(crate) fn armed() -> bool {
    #[cfg(feature = "failpoints")]
    return enabled::armed();
    #[cfg(not(feature = "failpoints"))]
    false
}

/// Whether the coordinator takes one input a batch.
pub(crate) fn single_batches() -> bool {
    cfg!(feature = "failpoints") && std::env::var_os("FAILPOINT_BATCH").is_some_and(|value| value == "1")
}

/// How many seconds the wall clock is to be off.
pub(crate) fn clock_off() -> i64 {
    #[cfg(feature = "failpoints")]
    return enabled::clock_off();
    #[cfg(not(feature = "failpoints"))]
    0
}

#[cfg(feature = "failpoints")]
mod enabled {
    use std::ffi::OsString;
    use std::fs::{File, OpenOptions};
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{LazyLock, Mutex, PoisonError};

    struct Kill {
        name: String,
        nth: u64,
        hits: AtomicU64,
    }

    static KILL: LazyLock<Option<Kill>> = LazyLock::new(|| {
        let text = std::env::var("FAILPOINT_KILL").ok()?;
        let (name, nth) = text.rsplit_once('@').unwrap_or((&text, "1"));
        Some(Kill {
            name: name.to_owned(),
            nth: nth.parse().unwrap_or(1),
            hits: AtomicU64::new(0),
        })
    });

    static CLOCK: LazyLock<Option<OsString>> = LazyLock::new(|| std::env::var_os("FAILPOINT_CLOCK"));

    pub(super) fn clock_off() -> i64 {
        let said = CLOCK.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        said.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    static TRACE: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
        let path = std::env::var_os("FAILPOINT_TRACE")?;
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        match opened {
            Ok(file) => Some(Mutex::new(file)),
            Err(error) => {
                tracing::error!(?path, %error, "cannot trace fail points");
                None
            }
        }
    });

    pub(super) fn armed() -> bool {
        KILL.is_some() || TRACE.is_some()
    }

    pub(super) fn hit(name: &str) {
        if let Some(trace) = &*TRACE {
            let mut file = trace.lock().unwrap_or_else(PoisonError::into_inner);
            // One write a line: a kill leaves no half of it.
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
        if let Some(kill) = &*KILL
            && kill.name == name
            && kill.hits.fetch_add(1, Ordering::SeqCst) + 1 == kill.nth
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal may take a moment, in which nothing more may happen.
            loop {
                std::thread::park();
            }
        }
    }
}
