//! Conversions between the wire and the vocabulary of [`common`]. What comes in is checked here, once, and an
//! error names the path of the field in the request.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::operation::{Allocation, VolumeAddress, VolumeFormat};
use common::task::{TaskResult, TaskState, TaskStatus};
use common::time::Timestamp;

use crate::task::v1 as wire;

mod operation;

pub use operation::{operation_from_wire, operation_is_about, operation_to_wire};

/// Reads a typed id from a field that must be set. One in capitals is the same id: what we keep, compare and show has lower
/// case.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming `field`.
pub fn id<T: FromStr<Err = common::id::IdError>>(field: impl fmt::Display, text: &str) -> Result<T, Fault> {
    common::id::in_any_case(text).map_err(|error| Fault::invalid(field, error))
}

/// Reads a typed id from a field that may be left empty.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming `field`.
pub fn optional_id<T: FromStr<Err = common::id::IdError>>(
    field: impl fmt::Display,
    text: &str,
) -> Result<Option<T>, Fault> {
    if text.is_empty() {
        Ok(None)
    } else {
        id(field, text).map(Some)
    }
}

/// Reads a value of an enum: unset, and values that this build does not know, are refused.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming `field` and the values that it takes.
pub fn known_enum<E: TryFrom<i32> + Copy>(
    field: impl fmt::Display,
    value: i32,
    expected: &str,
) -> Result<E, Fault> {
    let refuse = |what: &str| Fault::invalid(&field, format!("{what}; expected {expected}"));
    match (value, E::try_from(value)) {
        (0, _) => Err(refuse("is not set")),
        (_, Ok(known)) => Ok(known),
        (_, Err(_)) => Err(refuse(&format!("has the unknown value {value}"))),
    }
}

/// A point in time on the wire.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.as_micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default(),
    }
}

/// A duration from the wire; none if it is negative or malformed. Unlike the conversion of `prost_types`, this one has an answer
/// for every message: that one panics for some that are negative.
pub fn from_duration(duration: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u32::try_from(duration.nanos).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

/// A point in time from the wire, held at the ends of the range.
pub fn from_timestamp(time: &prost_types::Timestamp) -> Timestamp {
    let micros = i128::from(time.seconds) * 1_000_000 + i128::from(time.nanos / 1_000);
    let ends = (i128::from(i64::MIN), i128::from(i64::MAX));
    Timestamp(i64::try_from(micros.clamp(ends.0, ends.1)).unwrap_or_default())
}

/// A volume's format on the wire.
pub const fn format_to_wire(format: VolumeFormat) -> wire::VolumeFormat {
    match format {
        VolumeFormat::Raw => wire::VolumeFormat::Raw,
        VolumeFormat::Cow => wire::VolumeFormat::Cow,
    }
}

/// A volume's allocation on the wire.
pub const fn allocation_to_wire(allocation: Allocation) -> wire::Allocation {
    match allocation {
        Allocation::Sparse => wire::Allocation::Sparse,
        Allocation::Preallocated => wire::Allocation::Preallocated,
    }
}

/// Reads a volume's format.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming `field`.
pub fn format_from_wire(field: impl fmt::Display, value: i32) -> Result<VolumeFormat, Fault> {
    Ok(
        match known_enum(&field, value, "VOLUME_FORMAT_RAW or VOLUME_FORMAT_COW")? {
            wire::VolumeFormat::Cow => VolumeFormat::Cow,
            wire::VolumeFormat::Raw | wire::VolumeFormat::Unspecified => VolumeFormat::Raw,
        },
    )
}

/// Reads a volume's allocation.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming `field`.
pub fn allocation_from_wire(field: impl fmt::Display, value: i32) -> Result<Allocation, Fault> {
    Ok(
        match known_enum(&field, value, "ALLOCATION_SPARSE or ALLOCATION_PREALLOCATED")? {
            wire::Allocation::Preallocated => Allocation::Preallocated,
            wire::Allocation::Sparse | wire::Allocation::Unspecified => Allocation::Sparse,
        },
    )
}

/// A volume's address on the wire.
pub fn address_to_wire(address: &VolumeAddress) -> wire::VolumeAddress {
    wire::VolumeAddress {
        domain_id: address.domain_id.to_string(),
        image_id: address.image_id.to_string(),
        volume_id: address.volume_id.to_string(),
    }
}

/// Reads a volume's address; `field` is its own path in the request.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the path of what is wrong.
pub fn address_from_wire(
    field: impl fmt::Display,
    address: Option<&wire::VolumeAddress>,
) -> Result<VolumeAddress, Fault> {
    let address = address
        .ok_or_else(|| Fault::invalid(&field, "is not set; expected domain_id, image_id and volume_id"))?;
    Ok(VolumeAddress {
        domain_id: id(format_args!("{field}.domain_id"), &address.domain_id)?,
        image_id: id(format_args!("{field}.image_id"), &address.image_id)?,
        volume_id: id(format_args!("{field}.volume_id"), &address.volume_id)?,
    })
}

/// A fault on the wire.
pub fn fault_to_wire(fault: &Fault) -> wire::Fault {
    wire::Fault {
        code: fault.code_text().to_owned(),
        subject: fault.subject.to_string(),
        message: fault.message.to_string(),
        vdsm_code: fault.code.vdsm_code().unwrap_or_default(),
        repeat_may_help: fault.code.repeat_may_help(),
        final_verdict: false,
    }
}

/// Reads a fault, whoever made it: its texts are cut and escaped ([`common::words`]). A code that this build does not know
/// is kept as it came.
pub fn fault_from_wire(fault: &wire::Fault) -> Fault {
    if fault.code.is_empty() {
        return Fault::new(FaultCode::Unrecognized, &fault.message).about(&fault.subject);
    }
    Fault::from_code_text(&fault.code, &fault.subject, &fault.message)
}

/// A task's state on the wire.
pub const fn state_to_wire(state: TaskState) -> wire::TaskState {
    match state {
        TaskState::Init => wire::TaskState::Init,
        TaskState::Preparing => wire::TaskState::Preparing,
        TaskState::Queued => wire::TaskState::Queued,
        TaskState::Running => wire::TaskState::Running,
        TaskState::Finished => wire::TaskState::Finished,
        TaskState::Aborting => wire::TaskState::Aborting,
        TaskState::Recovering => wire::TaskState::Recovering,
        TaskState::Recovered => wire::TaskState::Recovered,
        TaskState::Failed => wire::TaskState::Failed,
    }
}

/// Reads a task's state; none for what is unset or what this build does not know.
pub fn state_from_wire(state: i32) -> Option<TaskState> {
    Some(match wire::TaskState::try_from(state).ok()? {
        wire::TaskState::Unspecified => return None,
        wire::TaskState::Init => TaskState::Init,
        wire::TaskState::Preparing => TaskState::Preparing,
        wire::TaskState::Queued => TaskState::Queued,
        wire::TaskState::Running => TaskState::Running,
        wire::TaskState::Finished => TaskState::Finished,
        wire::TaskState::Aborting => TaskState::Aborting,
        wire::TaskState::Recovering => TaskState::Recovering,
        wire::TaskState::Recovered => TaskState::Recovered,
        wire::TaskState::Failed => TaskState::Failed,
    })
}

/// The derived status on the wire.
pub const fn status_to_wire(status: TaskStatus) -> wire::TaskStatus {
    match status {
        TaskStatus::Init => wire::TaskStatus::Init,
        TaskStatus::Running => wire::TaskStatus::Running,
        TaskStatus::Finished => wire::TaskStatus::Finished,
        TaskStatus::Aborting => wire::TaskStatus::Aborting,
        TaskStatus::Cleaning => wire::TaskStatus::Cleaning,
    }
}

/// The derived result on the wire; unspecified while the task is not over.
pub const fn result_to_wire(result: Option<TaskResult>) -> wire::TaskResult {
    match result {
        None => wire::TaskResult::Unspecified,
        Some(TaskResult::Success) => wire::TaskResult::Success,
        Some(TaskResult::CleanSuccess) => wire::TaskResult::CleanSuccess,
        Some(TaskResult::CleanFailure) => wire::TaskResult::CleanFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back_and_unknown_ones_are_none() {
        for state in TaskState::ALL {
            assert_eq!(state_from_wire(state_to_wire(state).into()), Some(state));
        }
        assert_eq!(state_from_wire(0), None);
        assert_eq!(state_from_wire(99), None);
    }

    #[test]
    fn every_duration_has_an_answer() {
        let read = |seconds, nanos| from_duration(&prost_types::Duration { seconds, nanos });
        assert_eq!(read(1, 5), Some(Duration::new(1, 5)));
        assert_eq!(
            read(i64::MAX, 999_999_999),
            Some(Duration::new(i64::MAX as u64, 999_999_999))
        );
        let wrong = [
            (i64::MIN, 0),
            (i64::MIN, i32::MIN),
            (-1, 0),
            (0, -1),
            (0, 1_000_000_000),
            (i64::MIN, i32::MAX),
        ];
        for (seconds, nanos) in wrong {
            assert_eq!(read(seconds, nanos), None, "{seconds} s {nanos} ns");
        }
    }

    #[test]
    fn times_before_the_epoch_survive() {
        for micros in [
            0,
            1,
            -1,
            1_795_487_297_000_001,
            -1_000_000,
            i64::MIN,
            i64::MIN + 224_192,
            i64::MAX,
        ] {
            assert_eq!(from_timestamp(&timestamp(Timestamp(micros))), Timestamp(micros));
        }
    }
}
