//! Why something did not go as promised, in words for whoever reads the output of a test or of the demo.

use std::fmt;

/// A reason, in a sentence or more.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(String);

/// What most of the harness returns.
pub type TestResult<T> = Result<T, Failure>;

impl Failure {
    /// With this reason.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As `Display`: tests end with `Result`, and a quoted reason full of `\n` helps nobody.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self(format!("{:?}: {}", status.code(), status.message()))
    }
}

impl From<tonic::transport::Error> for Failure {
    fn from(error: tonic::transport::Error) -> Self {
        Self(error.to_string())
    }
}

/// Says what was being done when something failed.
pub trait Context<T> {
    /// Puts `what` before the reason.
    ///
    /// # Errors
    /// The same failure, with the words before it.
    fn context(self, what: impl fmt::Display) -> TestResult<T>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> TestResult<T> {
        self.map_err(|error| Failure(format!("{what}: {}", error.into())))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> TestResult<T> {
        self.ok_or_else(|| Failure::new(what))
    }
}

/// Fails with `reason` unless `holds`.
///
/// # Errors
/// `reason`, where it does not hold.
pub fn ensure(holds: bool, reason: impl FnOnce() -> String) -> TestResult<()> {
    if holds { Ok(()) } else { Err(Failure(reason())) }
}
