//! The value made from the files of a TLS configuration, made anew when the files change.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use common::time::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use super::TlsError;
use super::certificate::Certificate;
use super::files::{Bytes, Files, Material};
use crate::causes::causes;
use crate::{clock, threads};

/// How often the files are checked: a change takes effect within this time, or at SIGHUP.
const LOOK: Duration = Duration::from_secs(5);

/// How long before a certificate expires the log begins to warn: long enough for somebody who is on holiday.
const WARNED_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often the warning is repeated.
const WARNED_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

type Make<T> = dyn Fn(&Material) -> Result<T, TlsError> + Send + Sync;

/// The files, and the value made from them.
pub(super) struct Kept<T> {
    files: Files,
    make: Box<Make<T>>,
    now: watch::Sender<Arc<Now<T>>>,
}

/// The present value.
#[derive(Debug)]
pub(super) struct Now<T> {
    bytes: Bytes,
    certificates: Vec<(&'static str, Certificate)>,
    pub(super) made: T,
}

impl<T: Send + Sync + 'static> Kept<T> {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be used.
    pub(super) fn open(
        files: Files,
        make: impl Fn(&Material) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, TlsError> {
        let make = Box::new(make);
        let now = made(&files, &make, files.read()?)?;
        files.look_at_key();
        Ok(Arc::new(Self {
            files,
            make,
            now: watch::Sender::new(Arc::new(now)),
        }))
    }

    /// The present value.
    pub(super) fn now(&self) -> Arc<Now<T>> {
        Arc::clone(&self.now.borrow())
    }

    /// A receiver of changes.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<Now<T>>> {
        self.now.subscribe()
    }

    /// The certificates in use, each with the flag that names its file.
    pub(super) fn certificates(&self) -> Vec<(&'static str, Certificate)> {
        self.now.borrow().certificates.clone()
    }

    /// Reads the files again when they change, and warns about certificates that expire, for as long as it is polled.
    pub(super) async fn keep(self: &Arc<Self>) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut told = Told::default();
        loop {
            self.tell_of_ends(&mut told);
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = received(&mut hangup) => told.trouble = None,
            }
            let kept = Arc::clone(self);
            let looked = threads::blocking(move || kept.look()).await;
            match looked {
                Ok(Ok(false)) => told.trouble = None,
                Ok(Ok(true)) => {
                    told = Told::default();
                    let names = self.certificates();
                    let own = names.first().map(|(_, own)| (own.name(), own.until.clone()));
                    let (own, until) = own.unwrap_or_default();
                    tracing::info!(own, until, file = %self.files.cert.1.display(), "the certificates have changed; the new ones are in use");
                }
                Ok(Err(error)) => told.trouble(&error),
                // The check panicked: the files count as unchanged.
                Err(_) => {}
            }
        }
    }

    /// Takes over the contents of the files if they have changed; returns whether they have. Blocks.
    fn look(&self) -> Result<bool, TlsError> {
        let bytes = self.files.read()?;
        if self.now.borrow().bytes == bytes {
            return Ok(false);
        }
        let now = made(&self.files, &self.make, bytes)?;
        self.files.look_at_key();
        self.now.send_replace(Arc::new(now));
        Ok(true)
    }

    fn tell_of_ends(&self, told: &mut Told) {
        if told.ends.is_some_and(|told| told.elapsed() < WARNED_EVERY) {
            return;
        }
        told.ends = Some(Instant::now());
        for (flag, certificate) in self.certificates() {
            tell_of_end(flag, &certificate, clock::now());
        }
    }
}

fn made<T>(files: &Files, make: &Make<T>, bytes: Bytes) -> Result<Now<T>, TlsError> {
    let material = files.understand(&bytes)?;
    let made = make(&material)?;
    Ok(Now {
        bytes,
        certificates: material.certificates,
        made,
    })
}

/// Warns that a certificate expires soon, has expired, or is not valid yet.
fn tell_of_end(flag: &'static str, certificate: &Certificate, now: Timestamp) {
    let (name, until) = (certificate.name(), &certificate.until);
    let left = certificate.not_after.as_micros().saturating_sub(now.as_micros());
    if left <= 0 {
        tracing::error!(
            name,
            until,
            "a certificate of {flag} has EXPIRED: peers refuse it; replace the file"
        );
    } else if certificate.not_before > now {
        tracing::error!(name, "a certificate of {flag} is not valid yet: check the clock");
    } else if u128::from(left.unsigned_abs()) < WARNED_BEFORE.as_micros() {
        let days = left / DAY_MICROS;
        tracing::warn!(
            name,
            until,
            days,
            "a certificate of {flag} expires soon: replace the file before then"
        );
    }
}

/// What was logged.
#[derive(Default)]
struct Told {
    ends: Option<Instant>,
    trouble: Option<String>,
}

impl Told {
    /// Logs a problem once.
    fn trouble(&mut self, error: &TlsError) {
        let words = causes(error);
        if self.trouble.as_ref() != Some(&words) {
            tracing::error!(
                "the changed certificates cannot be used, and the former ones stay in use: {words}"
            );
            self.trouble = Some(words);
        }
    }
}

/// Waits for the signal; never completes if the signal cannot be caught.
async fn received(hangup: &mut Option<Signal>) {
    let received = match hangup {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if received.is_none() {
        pending().await
    }
}

impl<T> std::fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
