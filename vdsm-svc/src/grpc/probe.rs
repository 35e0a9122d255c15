//! ProbeOperation: what storage shows of an operation, and whether that can still change.

use std::sync::Arc;

use ::store::{Store, StoreError};
use common::fault::{Fault, FaultKind};
use common::id::TaskId;
use common::operation::Operation;
use common::words::{LISTED, Words};
use proto::convert;
use proto::host::v1 as wire;
use proto::store::v1::HostHistory;
use runtime::log::Log;
use vdsm_core::Task;
use vdsm_storage::op::{self, Evidence};
use vdsm_storage::run_dir::{self, Orphans};
use vdsm_storage::{NamedRoot, StorageRoot};

use super::host_service::left_out;
use super::storage;
use crate::store::{self, shown};

/// A validated request.
pub(super) struct Probe {
    operation: Operation,
    task_id: Option<TaskId>,
}

impl Probe {
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(super) fn read(request: &wire::ProbeOperationRequest) -> Result<Self, Fault> {
        Ok(Self {
            operation: convert::operation_from_wire("operation", request.operation.as_ref())?,
            task_id: convert::optional_id("task_id", &request.task_id)?,
        })
    }

    /// The operation, which says where to look.
    pub(super) fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Looks at storage. The task's record is read first, and processes are looked for before and after the look at
    /// storage: a process that has ended in between has left all its effects.
    ///
    /// # Errors
    /// A later try may get an answer: the store or the file system does not answer now.
    pub(super) fn answer(
        &self,
        root: &NamedRoot,
        log: &Arc<Log<HostHistory>>,
    ) -> Result<wire::ProbeOperationResponse, Fault> {
        let root = &*root.now()?;
        let store = &**log.store();
        let remembered = self
            .remembered(store)
            .map_err(|error| storage::unreadable(&error))?;
        let before = self.orphans(root, store);
        let evidence = op::evidence(root, &self.operation);
        let after = self.orphans(root, store);
        let (verdict, words, can_begin_again) = match before.unreadable.iter().chain(&after.unreadable).next()
        {
            // It is not proven that no other process is at work.
            Some(fault) => (wire::ProbeVerdict::Unclear, fault.to_string(), false),
            None => verdict(evidence)?,
        };
        let mut busy = [before.tasks, after.tasks].concat();
        busy.sort_unstable();
        busy.dedup();
        let identity = log.identity();
        Ok(wire::ProbeOperationResponse {
            verdict: verdict.into(),
            words: Words::from(words).into(),
            can_begin_again,
            busy_tasks_left_out: left_out(busy.len()),
            busy_task_ids: busy.iter().take(LISTED).map(TaskId::to_string).collect(),
            task: remembered.as_deref().map(shown),
            store_id: identity.store_id.to_string(),
            start: format!("{:016x}", identity.start.0),
        })
    }

    fn remembered(&self, store: &dyn Store) -> Result<Option<Arc<Task>>, StoreError> {
        match self.task_id {
            Some(id) => Ok(store::known(&*store.reader()?, id)?.task),
            None => Ok(None),
        }
    }

    /// Tasks of which a process is left although no thread of this service works on them.
    fn orphans(&self, root: &StorageRoot, store: &dyn Store) -> Orphans {
        let is_another = |id| Some(id) != self.task_id && store::may_know(store, id);
        run_dir::orphans(root, &is_another)
    }
}

/// If a repeat may help against the fault, there is no answer; any other fault means that storage cannot tell.
fn verdict(evidence: Result<Evidence, Fault>) -> Result<(wire::ProbeVerdict, String, bool), Fault> {
    use wire::ProbeVerdict as Verdict;
    Ok(match evidence {
        Ok(Evidence::Done) => (Verdict::Done, "it has taken effect".to_owned(), false),
        Ok(Evidence::ImageAbsent) => (
            Verdict::Done,
            "the image does not exist, and nothing of it is left".to_owned(),
            false,
        ),
        Ok(Evidence::Untouched) => (Verdict::NotBegun, "nothing of it exists".to_owned(), false),
        Ok(Evidence::Empty(words)) => (Verdict::Begun, words, true),
        Ok(Evidence::Partial(words)) => (Verdict::Begun, words, false),
        Err(fault) if fault.code.repeat_may_help() || fault.code.kind() == FaultKind::Unavailable => {
            return Err(fault);
        }
        Err(fault) => (Verdict::Unclear, fault.to_string(), false),
    })
}

#[cfg(test)]
mod tests {
    use common::fault::FaultCode;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_unclear_and_what_may_be_read_later_is_no_answer() {
        let missing = Fault::new(FaultCode::DomainNotFound, "no such domain");
        let (verdict, words, _) = super::verdict(Err(missing)).unwrap();
        assert_eq!(verdict, wire::ProbeVerdict::Unclear);
        assert!(words.contains("no such domain"), "{words}");
        let later = Fault::new(FaultCode::StoreUnavailable, "not now");
        assert!(super::verdict(Err(later)).is_err());
    }
}
