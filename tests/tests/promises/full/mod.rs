//! The disk of a data directory is full: new work is refused with a stable code, reads and watches go on, accepted
//! work ends, nothing is lost, and nothing is announced that is not on disk; when there is room again, all goes on by
//! itself.

mod engine;
mod host;
mod waiting;

use tests::client::Refusal;
use tests::failure::{Failure, TestResult};
use tests::loop_mount::{FileSystem, NoMount};
use tests::service::Service;
use tests::small_disk::SmallDisk;
use tonic::{Code, Status};

/// A small disk of its own for the data directory of a service that does not run; none if this machine cannot make
/// one.
fn small_disk(service: &mut Service, kind: FileSystem) -> TestResult<Option<SmallDisk>> {
    match SmallDisk::under(service, kind) {
        Ok(disk) => Ok(Some(disk)),
        Err(NoMount::Skip(why)) => {
            crate::skipped(&format!("full data directories on {}", kind.name()), &why);
            Ok(None)
        }
        Err(NoMount::Failed(failure)) => Err(failure),
    }
}

/// The answer of a service with a full disk to a request that would change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Refused: nothing was changed.
    Full,
    /// It is unknown whether the request took effect.
    Unknown,
}

impl Said {
    /// Any other answer, or one without words.
    fn of(status: &Status) -> TestResult<Self> {
        let refusal = Refusal::from(status);
        let said = match (refusal.code, refusal.fault.code.as_str()) {
            (Code::Unavailable, "STORE_FULL") if status.message().contains("full") => Self::Full,
            (Code::Unavailable, "STORE_UNAVAILABLE") => Self::Unknown,
            _ => return Err(Failure::new(format!("a full disk is refused so: {status:?}"))),
        };
        match refusal.reason == refusal.fault.code && !status.message().is_empty() {
            true => Ok(said),
            false => Err(Failure::new(format!("without a code or a sentence: {status:?}"))),
        }
    }
}

/// Checks that the log of a service that did not start says what is missing.
fn says_what_it_lacks(service: &Service) -> TestResult<()> {
    let last = service.log_tail(3);
    tests::failure::ensure(last.contains("No space left"), || {
        format!("it ended without saying why:\n{last}")
    })
}
