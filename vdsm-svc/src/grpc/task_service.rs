//! `vdsm_engine.host.v1.TaskService`.

use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::id::TaskId;
use common::operation::Operation;
use common::task::TaskState;
use proto::convert;
use proto::host::v1 as wire;
use proto::host::v1::task_service_server::TaskService;
use proto::task::v1 as task_wire;
use runtime::metadata::Caller;
use runtime::watch::{self, WatchOptions, WatchStream};
use runtime::{page, reads, status};
use tonic::{Request, Response, Status};
use vdsm_core::{Answer, Input, Known, Refusal, Start};

use super::feed::TaskFeed;
use super::fenced::Fenced;
use super::filter::Filter;
use super::{Gate, Host, caller, refused, unexpected};
use crate::journal::{self, Listing, shown};

/// How often an id is looked up again when what was read is too old to decide by: once is nearly always enough.
const LOOKS: usize = 5;

/// See the module.
pub(super) struct Tasks {
    gate: Gate,
}

/// The task as the host answered it, and the token of that answer.
type Answered = (Option<wire::Task>, String);

impl Tasks {
    pub(super) fn new(gate: Gate) -> Self {
        Self { gate }
    }
}

#[tonic::async_trait]
impl TaskService for Tasks {
    async fn start_task(
        &self,
        request: Request<wire::StartTaskRequest>,
    ) -> Result<Response<wire::StartTaskResponse>, Status> {
        let host = self.gate.host()?;
        let who = Caller::of(&request).map_err(|fault| verdict(&fault))?;
        let request = request.into_inner();
        let task_id: TaskId = convert::id("task_id", &request.task_id).map_err(|fault| verdict(&fault))?;
        let operation = convert::operation_from_wire("operation", request.operation.as_ref())
            .and_then(supported)
            .map_err(|fault| verdict(&fault))?;
        // A repeat is answered as ever: it takes no room.
        if let Err(full) = status::admit(&**host.log.store())
            && host.known(task_id)?.task.is_none()
        {
            return Err(full);
        }
        let correlation_id = who.correlation_id.clone().unwrap_or_default();
        let input = |known| {
            Input::Start(Start {
                caller: caller(&who),
                task_id,
                operation: operation.clone(),
                correlation_id: correlation_id.clone(),
                known,
            })
        };
        let asked = Asked {
            rpc: "StartTask",
            task_id,
            correlation_id: &correlation_id,
        };
        let (task, token) = host.decide(asked, input, verdict).await?;
        Ok(Response::new(wire::StartTaskResponse { task, token }))
    }

    async fn get_task(
        &self,
        request: Request<wire::GetTaskRequest>,
    ) -> Result<Response<wire::GetTaskResponse>, Status> {
        let host = self.gate.host()?;
        let task_id =
            convert::id("task_id", &request.get_ref().task_id).map_err(|f| status::from_fault(&f))?;
        let known = host.known(task_id)?;
        let task = known.task.ok_or_else(|| {
            let message = format!(
                "this host knows no task {task_id}: it never came here, or was forgotten because of its age"
            );
            status::from_fault(&Fault::new(FaultCode::TaskNotFound, message).about(task_id))
        })?;
        Ok(Response::new(wire::GetTaskResponse {
            task: Some(shown(&task)),
        }))
    }

    async fn list_tasks(
        &self,
        request: Request<wire::ListTasksRequest>,
    ) -> Result<Response<wire::ListTasksResponse>, Status> {
        let host = self.gate.host()?;
        let listing = listing(request.get_ref()).map_err(|fault| status::from_fault(&fault))?;
        let store = Arc::clone(host.log.store());
        let listed = reads::on(store, move |reader| journal::list(reader, &listing)).await;
        let (tasks, next) = listed.map_err(status::from_store)?;
        Ok(Response::new(wire::ListTasksResponse {
            tasks,
            next_page_token: next.map(|key| page::token(&key)).unwrap_or_default(),
        }))
    }

    async fn abort_task(
        &self,
        request: Request<wire::AbortTaskRequest>,
    ) -> Result<Response<wire::AbortTaskResponse>, Status> {
        let host = self.gate.host()?;
        let who = Caller::of(&request).map_err(|fault| status::from_fault(&fault))?;
        let task_id =
            convert::id("task_id", &request.get_ref().task_id).map_err(|f| status::from_fault(&f))?;
        let correlation_id = who.correlation_id.clone().unwrap_or_default();
        let input = |known| Input::Abort {
            caller: caller(&who),
            task_id,
            correlation_id: correlation_id.clone(),
            known,
        };
        let asked = Asked {
            rpc: "AbortTask",
            task_id,
            correlation_id: &correlation_id,
        };
        let (task, token) = host.decide(asked, input, status::from_fault).await?;
        Ok(Response::new(wire::AbortTaskResponse { task, token }))
    }

    async fn clear_task(
        &self,
        request: Request<wire::ClearTaskRequest>,
    ) -> Result<Response<wire::ClearTaskResponse>, Status> {
        let host = self.gate.host()?;
        let who = Caller::of(&request).map_err(|fault| status::from_fault(&fault))?;
        let task_id =
            convert::id("task_id", &request.get_ref().task_id).map_err(|f| status::from_fault(&f))?;
        let input = |known| Input::Clear {
            caller: caller(&who),
            task_id,
            known,
        };
        let asked = Asked {
            rpc: "ClearTask",
            task_id,
            correlation_id: who.correlation_id.as_deref().unwrap_or_default(),
        };
        let (task, token) = host.decide(asked, input, status::from_fault).await?;
        Ok(Response::new(wire::ClearTaskResponse { task, token }))
    }

    type WatchTasksStream = Fenced<WatchStream<TaskFeed>>;

    async fn watch_tasks(
        &self,
        request: Request<wire::WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let host = self.gate.host()?;
        let who = Caller::of(&request).map_err(|fault| status::from_fault(&fault))?;
        let request = request.into_inner();
        let options = WatchOptions::read(
            request.start.as_ref(),
            request.ended_within.as_ref(),
            request.heartbeat_interval.as_ref(),
            request.include_progress,
            host.watches,
        )
        .map_err(|fault| status::from_fault(&fault))?;
        let filter =
            Filter::read(request.filter.unwrap_or_default()).map_err(|fault| status::from_fault(&fault))?;
        // Who is no engine follows whoever's host it is.
        let engine = caller(&who).engine;
        let fence = engine.map(|call| host.presence.fence(call)).transpose();
        let fence = fence.map_err(|fault| status::from_fault(&fault))?;
        let start = engine.and_then(|engine| engine.incarnation);
        let present = start.map(|start| host.presence.arrives(start));
        let feed = TaskFeed::new(filter, Arc::clone(&host.alive), present);
        let stream = watch::watch(Arc::clone(&host.log), feed, options)?;
        Ok(Response::new(Fenced::new(stream, fence)))
    }
}

/// What a log line of a call says of it. No span: one would cost each call what only a refusal needs.
#[derive(Clone, Copy)]
struct Asked<'a> {
    rpc: &'static str,
    task_id: TaskId,
    correlation_id: &'a str,
}

impl Host {
    /// What the store knows of an id. One record, mostly in the page cache: quicker than a thread for it.
    fn known(&self, id: TaskId) -> Result<Known, Status> {
        let reader = self.log.store().reader().map_err(status::from_store)?;
        journal::known(&*reader, id).map_err(status::from_store)
    }

    /// Has the host's mind decide about a task, by what the store knows of its id.
    async fn decide(
        &self,
        asked: Asked<'_>,
        input: impl Fn(Known) -> Input,
        refuse: impl Fn(&Fault) -> Status,
    ) -> Result<Answered, Status> {
        let Asked {
            rpc,
            task_id,
            correlation_id,
        } = asked;
        for _ in 0..LOOKS {
            let answer = self.ask(input(self.known(task_id)?)).await?;
            let token = answer.token.to_string();
            match answer.reply {
                Ok(Answer::Task(task)) => return Ok((Some(shown(&task)), token)),
                Ok(Answer::NoTask) => return Ok((None, token)),
                Ok(Answer::Owner(_) | Answer::Done) => return Err(unexpected()),
                Err(Refusal::Fault(fault)) => {
                    tracing::info!(rpc, %task_id, correlation_id, %fault, "refused");
                    return Err(refuse(&fault));
                }
                Err(Refusal::LookAgain) => {}
            }
        }
        Err(refused(&Refusal::LookAgain))
    }
}

/// Only these say that the task will never run here as it was sent; any other refusal says nothing about it.
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
            "noop is served only by builds with fail points; send another verb",
        )
        .about("operation.noop"));
    }
    Ok(operation)
}

fn listing(request: &wire::ListTasksRequest) -> Result<Listing, Fault> {
    let states = request.states.iter().enumerate().map(|(at, state)| {
        let field = format!("states[{at}]");
        convert::known_enum::<task_wire::TaskState>(&field, *state, "a TaskState")?;
        convert::state_from_wire(*state)
            .ok_or_else(|| Fault::invalid(&field, "is not set; expected a TaskState"))
    });
    let after = page::parse(&request.page_token)?;
    if !after.is_empty() && after.len() != size_of::<u64>() {
        return Err(Fault::invalid(
            "page_token",
            "is not one that ListTasks answered with; leave it empty to begin",
        ));
    }
    Ok(Listing {
        states: states.collect::<Result<Vec<TaskState>, Fault>>()?,
        show_removed: request.show_removed,
        size: page::size(request.page_size)?,
        after,
    })
}
