//! The end of a child that was not stopped.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use common::{Fault, FaultCode};

use rustix::process::Signal;

use super::capture::Captured;

/// The output of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its standard output.
    pub stdout: Captured,
    /// Its standard error.
    pub stderr: Captured,
}

/// The end of a child. Status 0 is always a success; the caller knows whether another status is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(super) argv: Vec<String>,
    pub(super) status: ExitStatus,
    /// The largest file that it was allowed to write.
    pub(super) file_bytes: Option<u64>,
    pub(super) output: Output,
}

impl Ended {
    /// The exit status; none if a signal ended it.
    pub(crate) fn exit(&self) -> Option<i32> {
        self.status.code()
    }

    /// Its output, however it ended.
    pub(crate) fn stdout_text(&self) -> String {
        self.output.stdout.text()
    }

    /// Its output, if it ended with 0.
    ///
    /// # Errors
    /// `QEMU_IMG_FAILED` with the command line, how it ended and what it said; `NO_SPACE`, `IMAGE_IN_USE`,
    /// `FILE_TOO_LARGE` and `RESOURCE_LIMIT` if its output says so.
    pub(crate) fn well(self) -> Result<Output, Fault> {
        if self.status.success() {
            return Ok(self.output);
        }
        let fault = failed(&self.argv, &how(self.status), &self.output.stderr.text());
        let by_signal = self.status.signal() == Some(Signal::XFSZ.as_raw());
        if !by_signal && fault.code != FaultCode::FileTooLarge {
            return Err(fault);
        }
        let least = match self.file_bytes {
            Some(bytes) => format!("than the {bytes} bytes that this work can need, or "),
            None => String::new(),
        };
        let message = format!(
            "a file would become larger {least}than the service's limit (ulimit -f, LimitFSIZE) or the file system allows; raise the limit if it is smaller: {}",
            fault.message
        );
        Err(Fault::new(FaultCode::FileTooLarge, message))
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => format!("ended in an unknown way ({status})"),
    }
}

/// The fault of a command line that failed.
pub(super) fn failed(argv: &[String], how: &str, stderr: &str) -> Fault {
    let said = match stderr.trim() {
        "" => String::new(),
        text => format!("; it said: {text}"),
    };
    // qemu-img reports errors only as text; these texts decide what the caller can do.
    let code = if stderr.contains("No space left on device") {
        FaultCode::NoSpace
    } else if stderr.contains("Is another process using the image") {
        FaultCode::ImageInUse
    } else if stderr.contains("File too large") || stderr.contains("is too large for file format") {
        FaultCode::FileTooLarge
    } else if stderr.lines().any(is_denied) {
        FaultCode::DomainAccessDenied
    } else if stderr.contains("Too many open files") || stderr.contains("Resource temporarily unavailable") {
        FaultCode::ResourceLimit
    } else {
        FaultCode::QemuImgFailed
    };
    let advice = if code == FaultCode::DomainAccessDenied {
        "; let the storage user (--storage-user) read and write the file itself (36:36, 0660)"
    } else {
        ""
    };
    Fault::new(code, format!("`qemu-img {}` {how}{said}{advice}", argv.join(" ")))
}

/// Whether access to a file was denied. A failed attempt to delete a file, which it makes after a failure, does not
/// count.
fn is_denied(line: &str) -> bool {
    line.contains("Permission denied") && !line.contains("Error when deleting file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_says_in_words_has_a_code() {
        let code = |said| failed(&[], "failed", said).code;
        assert_eq!(
            code("error while writing: No space left on device"),
            FaultCode::NoSpace
        );
        let lock = "Failed to get shared \"write\" lock\nIs another process using the image [v]?";
        assert_eq!(code(lock), FaultCode::ImageInUse);
        assert_eq!(
            code("Could not resize file: File too large"),
            FaultCode::FileTooLarge
        );
        assert_eq!(
            code("The image size is too large for file format 'raw'"),
            FaultCode::FileTooLarge
        );
        let no_thread = "qemu: qemu_thread_create: Resource temporarily unavailable";
        assert_eq!(code(no_thread), FaultCode::ResourceLimit);
        let denied = "Could not open '/proc/self/fd/9': Permission denied";
        assert_eq!(code(denied), FaultCode::DomainAccessDenied);
        let other = "Error when deleting file /proc/self/fd/9: Permission denied\nSomething else";
        assert_eq!(code(other), FaultCode::QemuImgFailed);
        assert_eq!(code("Unknown option"), FaultCode::QemuImgFailed);
    }
}
