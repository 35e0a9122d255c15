//! Encodes and decodes records.

use ::store::StoreError;
use bytes::Bytes;
use common::fault::Fault;
use common::revision::Start;
use prost::Message as _;
use proto::host::v1::HostTakeOver;
use proto::store::v1::{HostOwnerRecord, HostTaskRecord};
use proto::{convert, encode};
use vdsm_core::{Ordinal, Owner, TakeOver, TakenOver, Task};

use super::damaged;

/// The record of a task; `shown` is its shown form, encoded.
pub(super) fn encode_task(task: &Task, shown: &Bytes) -> Vec<u8> {
    let rest = HostTaskRecord {
        task: None,
        note: task.note.clone(),
        past_no_return: task.past_no_return,
        abort_closed: task.abort_closed,
        clear_time: task.clear_time.map(convert::timestamp),
        asked_in: task.asked_in.map(|start| start.0),
    };
    encode::around(shown, &rest)
}

/// Reads a task's record.
///
/// # Errors
/// [`StoreError::Damaged`], which names the task if possible.
pub(crate) fn decode_task(ordinal: Ordinal, bytes: &[u8]) -> Result<Task, StoreError> {
    let at = format!("the task with ordinal {}", ordinal.0);
    let record = HostTaskRecord::decode(bytes).map_err(|error| damaged(&at, error))?;
    let task = record.task.ok_or_else(|| damaged(&at, "is empty"))?;
    let at = format!("task {}", task.task_id);
    let wrong = |fault| damaged(&at, fault);
    let operation = match &task.operation {
        None => None,
        set => Some(convert::operation_from_wire("operation", set.as_ref()).map_err(wrong)?),
    };
    Ok(Task {
        ordinal,
        id: convert::id("task_id", &task.task_id).map_err(wrong)?,
        operation,
        state: convert::state_from_wire(task.state)
            .ok_or_else(|| damaged(&at, format!("has the unknown state {}", task.state)))?,
        sequence: task.sequence,
        fault: task.fault.as_ref().map(convert::fault_from_wire),
        undo_fault: task.undo_fault.as_ref().map(convert::fault_from_wire),
        abort_requested: task.abort_requested,
        abort_closed: record.abort_closed,
        past_no_return: record.past_no_return,
        asked_in: record.asked_in.map(Start),
        held: task.held,
        note: record.note,
        engine_id: convert::optional_id("engine_id", &task.engine_id).map_err(wrong)?,
        correlation_id: task.correlation_id,
        waiting_for: task.waiting_for,
        create_time: task
            .create_time
            .as_ref()
            .map(convert::from_timestamp)
            .unwrap_or_default(),
        start_time: task.start_time.as_ref().map(convert::from_timestamp),
        end_time: task.end_time.as_ref().map(convert::from_timestamp),
        removed: task.removed,
        clear_time: record.clear_time.as_ref().map(convert::from_timestamp),
    })
}

pub(super) fn encode_owner(owner: &Owner) -> Vec<u8> {
    HostOwnerRecord {
        engine_id: owner.engine_id.to_string(),
        engine_epoch: owner.epoch,
        released: owner.released,
        incarnation: owner.incarnation.map(|id| id.to_string()).unwrap_or_default(),
        copies: owner.copies.iter().map(ToString::to_string).collect(),
        last_take_over: owner.taken_over.as_ref().map(shown_take_over),
    }
    .encode_to_vec()
}

/// The record of a host without owner, as if no engine had ever had it, except for its last take-over.
pub(crate) fn nobodys(taken_over: TakenOver) -> Vec<u8> {
    encode_owner(&Owner::nobody(Some(taken_over)))
}

/// A take-over, in its recorded and shown form.
pub(crate) fn shown_take_over(taken: &TakenOver) -> HostTakeOver {
    HostTakeOver {
        user: taken.by.user.clone(),
        reason: taken.by.reason.clone(),
        correlation_id: taken.by.correlation_id.clone(),
        time: Some(convert::timestamp(taken.time)),
        from_engine_id: taken.from_engine.map(|id| id.to_string()).unwrap_or_default(),
        from_incarnation: taken
            .from_incarnation
            .map(|id| id.to_string())
            .unwrap_or_default(),
    }
}

/// Reads the owner's record.
///
/// # Errors
/// [`StoreError::Damaged`]: a host that does not know its owner must not serve.
pub(crate) fn decode_owner(bytes: &[u8]) -> Result<Owner, StoreError> {
    let record = HostOwnerRecord::decode(bytes).map_err(|error| damaged("the owner", error))?;
    let wrong = |fault| damaged("the owner", fault);
    let nobody = Owner::nobody(None).engine_id;
    let engine_id = match record.engine_id == nobody.to_string() && record.released {
        true => nobody,
        false => convert::id("engine_id", &record.engine_id).map_err(wrong)?,
    };
    let copies = record.copies.iter().map(|id| convert::id("copies", id));
    Ok(Owner {
        engine_id,
        epoch: record.engine_epoch,
        incarnation: convert::optional_id("incarnation", &record.incarnation).map_err(wrong)?,
        released: record.released,
        copies: copies.collect::<Result<_, _>>().map_err(wrong)?,
        taken_over: record.last_take_over.map(take_over).transpose().map_err(wrong)?,
    })
}

fn take_over(record: HostTakeOver) -> Result<TakenOver, Fault> {
    Ok(TakenOver {
        by: TakeOver {
            user: record.user,
            reason: record.reason,
            correlation_id: record.correlation_id,
        },
        time: record
            .time
            .as_ref()
            .map(convert::from_timestamp)
            .unwrap_or_default(),
        from_engine: convert::optional_id("from_engine_id", &record.from_engine_id)?,
        from_incarnation: convert::optional_id("from_incarnation", &record.from_incarnation)?,
    })
}

#[cfg(test)]
mod tests {
    use common::fault::{Fault, FaultCode};
    use common::id::{DomainId, ImageId, TaskId};
    use common::operation::{DeleteImage, Operation};
    use common::task::TaskState;
    use common::time::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::store::shown;

    pub(crate) fn full() -> Task {
        Task {
            ordinal: Ordinal(7),
            id: TaskId::from_uuid(Uuid::from_u128(1)),
            operation: Some(Operation::DeleteImage(DeleteImage {
                domain_id: DomainId::from_uuid(Uuid::from_u128(2)),
                image_id: ImageId::from_uuid(Uuid::from_u128(3)),
            })),
            state: TaskState::Aborting,
            sequence: 6,
            fault: Some(Fault::new(FaultCode::IoError, "the disk said no").about("x")),
            undo_fault: Some(Fault::new(FaultCode::FileSystemReadOnly, "and no again").about("y")),
            abort_requested: true,
            abort_closed: true,
            past_no_return: true,
            asked_in: Some(Start(5)),
            held: true,
            note: vec![1, 2, 3],
            engine_id: Some(common::id::EngineId::from_uuid(Uuid::from_u128(4))),
            correlation_id: "nightly-7".into(),
            waiting_for: "its turn".into(),
            create_time: Timestamp(1),
            start_time: Some(Timestamp(2)),
            end_time: Some(Timestamp(3)),
            removed: true,
            clear_time: Some(Timestamp(4)),
        }
    }

    #[test]
    fn fuzz_bytes_that_are_no_record_are_refused_without_a_panic() {
        fuzz::fuzz("host-records", [encoded(&full())], |input| {
            if let Ok(task) = decode_task(Ordinal(7), input) {
                assert_eq!(decode_task(Ordinal(7), &encoded(&task)).unwrap(), task);
            }
        });
    }

    fn encoded(task: &Task) -> Vec<u8> {
        encode_task(task, &encode::once(&shown(task)))
    }

    #[test]
    fn a_task_reads_back_as_it_was_recorded() {
        let never_started = Task {
            operation: None,
            engine_id: None,
            fault: None,
            asked_in: None,
            held: false,
            start_time: None,
            end_time: None,
            clear_time: None,
            ..full()
        };
        for task in [full(), never_started] {
            assert_eq!(decode_task(task.ordinal, &encoded(&task)).unwrap(), task);
        }
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_and_not_a_missing_task() {
        assert!(decode_task(Ordinal(1), b"\xff\xff\xff").is_err());
        assert!(decode_task(Ordinal(1), b"").is_err());
        let record = HostTaskRecord::decode(encoded(&full()).as_slice()).unwrap();
        let mut task = record.task.unwrap();
        task.state = 99;
        let newer = HostTaskRecord {
            task: Some(task),
            ..HostTaskRecord::default()
        };
        let error = decode_task(Ordinal(1), &newer.encode_to_vec())
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown state 99"), "{error}");
    }

    #[test]
    fn an_owner_reads_back_as_it_was_recorded() {
        let start = |n| Some(common::id::Incarnation::from_uuid(Uuid::from_u128(n)));
        let owner = Owner {
            engine_id: common::id::EngineId::from_uuid(Uuid::from_u128(4)),
            epoch: u64::MAX,
            incarnation: start(5),
            released: true,
            copies: start(6).into_iter().collect(),
            taken_over: Some(TakenOver {
                by: TakeOver {
                    user: "ann".into(),
                    reason: "it burnt down".into(),
                    correlation_id: "c-1".into(),
                },
                time: Timestamp(7),
                from_engine: Some(common::id::EngineId::from_uuid(Uuid::from_u128(8))),
                from_incarnation: start(9),
            }),
        };
        let of_an_older_build = Owner {
            incarnation: None,
            copies: Vec::new(),
            taken_over: None,
            ..owner.clone()
        };
        let nobody = Owner::nobody(owner.taken_over.clone());
        for owner in [owner, of_an_older_build, nobody] {
            assert_eq!(decode_owner(&encode_owner(&owner)).unwrap(), owner);
        }
        assert!(decode_owner(b"").is_err());
    }
}
