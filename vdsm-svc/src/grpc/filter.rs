//! The filter of a watcher of tasks. It compares only fields that never change for a task.

use std::fmt::Display;
use std::str::FromStr;

use common::fault::Fault;
use common::id::{EngineId, IdError, TaskId, VolumeId};
use proto::convert;
use proto::host::v1 as wire;
use runtime::filter::{self, Ids};

/// A checked filter. Ids have one spelling, so they are compared as text.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    task_ids: Ids,
    entity_id: String,
    engine_id: String,
    correlation_id: String,
}

impl Filter {
    /// Reads a request's filter.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(super) fn read(asked: wire::watch_tasks_request::Filter) -> Result<Self, Fault> {
        Ok(Self {
            task_ids: Ids::read::<TaskId>("filter.task_ids", &asked.task_ids)?,
            entity_id: optional::<VolumeId>("filter.entity_id", &asked.entity_id)?,
            engine_id: optional::<EngineId>("filter.engine_id", &asked.engine_id)?,
            correlation_id: filter::word("filter.correlation_id", &asked.correlation_id)?,
        })
    }

    /// The memory that the filter takes.
    pub(super) fn held_bytes(&self) -> usize {
        let texts = [&self.entity_id, &self.engine_id, &self.correlation_id];
        let texts = texts.map(String::capacity).iter().sum::<usize>();
        size_of::<Self>() + self.task_ids.held_bytes() + texts
    }

    /// Whether the watcher wants to see every task.
    pub(super) fn is_everything(&self) -> bool {
        self.task_ids.is_empty()
            && self.entity_id.is_empty()
            && self.engine_id.is_empty()
            && self.correlation_id.is_empty()
    }

    /// Whether the watcher wants to see this task.
    pub(super) fn matches(&self, task: &wire::Task) -> bool {
        self.task_ids.select(&task.task_id)
            && (self.entity_id.is_empty() || names(task, &self.entity_id))
            && (self.engine_id.is_empty() || self.engine_id == task.engine_id)
            && (self.correlation_id.is_empty() || self.correlation_id == task.correlation_id)
    }
}

/// An optional id in the spelling that is compared; empty if none is given.
fn optional<T: FromStr<Err = IdError> + Display>(field: &str, text: &str) -> Result<String, Fault> {
    let id = convert::optional_id::<T>(field, text)?;
    Ok(id.map(|id| id.to_string()).unwrap_or_default())
}

/// Whether the operation names the domain, image or volume.
fn names(task: &wire::Task, entity: &str) -> bool {
    let operation = task.operation.as_ref();
    operation.is_some_and(|operation| convert::operation_is_about(operation, entity))
}

#[cfg(test)]
mod tests {
    use proto::host::v1::watch_tasks_request::Filter as Asked;
    use proto::task::v1 as task_wire;
    use proto::task::v1::operation::Verb;

    use super::*;

    const A: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    const B: &str = "6ba7b811-9dad-41d1-80b4-00c04fd430c8";
    const C: &str = "6ba7b812-9dad-41d1-80b4-00c04fd430c8";

    fn task() -> wire::Task {
        wire::Task {
            task_id: A.into(),
            engine_id: B.into(),
            correlation_id: "nightly".into(),
            operation: Some(task_wire::Operation {
                verb: Some(Verb::DeleteImage(task_wire::DeleteImage {
                    domain_id: B.into(),
                    image_id: C.into(),
                })),
            }),
            ..wire::Task::default()
        }
    }

    #[test]
    fn all_parts_that_are_set_must_match() {
        let matches = |asked: Asked| Filter::read(asked).unwrap().matches(&task());
        assert!(matches(Asked::default()));
        assert!(matches(Asked {
            task_ids: vec![B.into(), A.into()],
            ..Asked::default()
        }));
        assert!(!matches(Asked {
            task_ids: vec![B.into()],
            ..Asked::default()
        }));
        assert!(matches(Asked {
            entity_id: C.into(),
            engine_id: B.into(),
            ..Asked::default()
        }));
        assert!(!matches(Asked {
            entity_id: A.into(),
            ..Asked::default()
        }));
        assert!(!matches(Asked {
            entity_id: C.into(),
            engine_id: C.into(),
            ..Asked::default()
        }));
        assert!(matches(Asked {
            correlation_id: "nightly".into(),
            ..Asked::default()
        }));
        assert!(!matches(Asked {
            correlation_id: "daily".into(),
            ..Asked::default()
        }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let subject = |asked: Asked| Filter::read(asked).unwrap_err().subject;
        assert_eq!(
            subject(Asked {
                task_ids: vec![A.into(), "x".into()],
                ..Asked::default()
            }),
            "filter.task_ids[1]"
        );
        assert_eq!(
            subject(Asked {
                entity_id: "x".into(),
                ..Asked::default()
            }),
            "filter.entity_id"
        );
        assert_eq!(
            subject(Asked {
                engine_id: "x".into(),
                ..Asked::default()
            }),
            "filter.engine_id"
        );
        assert_eq!(
            subject(Asked {
                task_ids: vec![A.into(); 1001],
                ..Asked::default()
            }),
            "filter.task_ids"
        );
        assert_eq!(
            subject(Asked {
                correlation_id: "x".repeat(256),
                ..Asked::default()
            }),
            "filter.correlation_id"
        );
    }
}
