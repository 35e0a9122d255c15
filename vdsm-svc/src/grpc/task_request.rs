//! Requests about one task that the machine decides: to start, abort or clear it.

use common::fault::{Fault, FaultCode};
use common::id::TaskId;
use common::operation::Operation;
use proto::convert;
use proto::host::v1 as wire;
use runtime::audit;
use runtime::metadata::Caller;
use runtime::status;
use tonic::{Request, Status};
use vdsm_core::{Answer, Input, Known, Refusal, Start};

use super::request::{id, who};
use super::{Host, caller, refused, unexpected};
use crate::store::{self, shown};

/// The maximum number of look-ups of an id if the looked-up record is too old to decide by: one is nearly always
/// enough.
const LOOKS: usize = 5;

/// A validated request.
pub(super) struct TaskRequest {
    who: Caller,
    task_id: TaskId,
    what: What,
}

enum What {
    Start(Operation),
    Abort,
    Clear,
}

/// The task in the host's answer, and the token of that answer.
pub(super) type Answered = (Option<wire::Task>, String);

impl TaskRequest {
    /// # Errors
    /// A final verdict, naming the field.
    pub(super) fn start(request: &Request<wire::StartTaskRequest>) -> Result<Self, Status> {
        let read = || {
            let message = request.get_ref();
            let who = Caller::of(request)?;
            let task_id = convert::id("task_id", &message.task_id)?;
            let operation = convert::operation_from_wire("operation", message.operation.as_ref())?;
            let what = What::Start(supported(operation)?);
            Ok(Self { who, task_id, what })
        };
        read().map_err(|fault| verdict(&fault))
    }

    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(super) fn abort(request: &Request<wire::AbortTaskRequest>) -> Result<Self, Status> {
        Ok(Self {
            who: who(request)?,
            task_id: id("task_id", &request.get_ref().task_id)?,
            what: What::Abort,
        })
    }

    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(super) fn clear(request: &Request<wire::ClearTaskRequest>) -> Result<Self, Status> {
        Ok(Self {
            who: who(request)?,
            task_id: id("task_id", &request.get_ref().task_id)?,
            what: What::Clear,
        })
    }

    fn correlation_id(&self) -> &str {
        self.who.correlation_id.as_deref().unwrap_or_default()
    }

    fn input(&self, known: Known) -> Input {
        let (caller, task_id) = (caller(&self.who), self.task_id);
        match &self.what {
            What::Start(operation) => Input::Start(Start {
                caller,
                task_id,
                operation: operation.clone(),
                correlation_id: self.correlation_id().to_owned(),
                known,
            }),
            What::Abort => Input::Abort {
                caller,
                task_id,
                correlation_id: self.correlation_id().to_owned(),
                known,
            },
            What::Clear => Input::Clear {
                caller,
                task_id,
                known,
            },
        }
    }

    fn refused(&self, fault: &Fault) -> Status {
        let (rpc, refusal) = match &self.what {
            What::Start(_) => ("StartTask", verdict(fault)),
            What::Abort => ("AbortTask", status::from_fault(fault)),
            What::Clear => ("ClearTask", status::from_fault(fault)),
        };
        // No span, because it would cost every call what only a refusal needs.
        tracing::info!(rpc, task_id = %self.task_id, correlation_id = self.correlation_id(), %fault, "refused");
        refusal
    }
}

impl Host {
    /// What the store knows of an id. One record, mostly in the page cache: quicker than handing it to a thread.
    pub(super) fn known(&self, id: TaskId) -> Result<Known, Status> {
        let reader = self.log.store().reader().map_err(status::from_store)?;
        store::known(&*reader, id).map_err(status::from_store)
    }

    /// Has the machine decide about a task, by what the store knows of its id.
    ///
    /// # Errors
    /// Why the request is refused.
    pub(super) async fn decide(&self, ask: TaskRequest) -> Result<Answered, Status> {
        audit::note(|noted| noted.entity = format!("task {}", ask.task_id).into());
        self.has_room_for(&ask)?;
        for _ in 0..LOOKS {
            let answer = self.ask(ask.input(self.known(ask.task_id)?)).await?;
            let token = answer.token.to_string();
            match answer.reply {
                Ok(Answer::Task(task)) => return Ok((Some(shown(&task)), token)),
                Ok(Answer::NoTask) => return Ok((None, token)),
                Ok(Answer::Owner(_) | Answer::Done) => return Err(unexpected()),
                Err(Refusal::Fault(fault)) => return Err(ask.refused(&fault)),
                Err(Refusal::LookAgain) => {}
            }
        }
        Err(refused(&Refusal::LookAgain))
    }

    /// Checks for room. Only a new task takes room: a repeat is answered as usual.
    fn has_room_for(&self, ask: &TaskRequest) -> Result<(), Status> {
        let What::Start(_) = &ask.what else {
            return Ok(());
        };
        match status::admit(&**self.log.store()) {
            Err(full) if self.known(ask.task_id)?.task.is_none() => Err(full),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Only these codes say that the task will never run here as it was sent; any other refusal says nothing about the
/// task.
fn verdict(fault: &Fault) -> Status {
    match fault.code {
        FaultCode::InvalidArgument | FaultCode::TaskIdReused | FaultCode::OperationUnsupported => {
            status::final_verdict(fault)
        }
        _ => status::from_fault(fault),
    }
}

fn supported(operation: Operation) -> Result<Operation, Fault> {
    if operation.is_noop() && !cfg!(feature = "failpoints") {
        return Err(Fault::new(
            FaultCode::OperationUnsupported,
            "noop is supported only by builds with fail points; send another operation",
        )
        .about("operation.noop"));
    }
    Ok(operation)
}
