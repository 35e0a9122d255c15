//! `vdsm_engine.host.v1.TaskService`.

use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::id::TaskId;
use proto::convert;
use proto::host::v1 as wire;
use proto::host::v1::task_service_server::TaskService;
use proto::task::v1 as task_wire;
use runtime::watch::{self, WatchOptions, WatchStream};
use runtime::{filter, page, reads, status};
use tonic::{Request, Response, Status};

use super::feed::TaskFeed;
use super::fenced::Fenced;
use super::filter::Filter;
use super::request::{OrRefuse as _, id, who};
use super::task_request::TaskRequest;
use super::{Gate, Host, caller};
use crate::store::{self, Listing, shown};

/// The service.
pub(super) struct Tasks {
    gate: Gate,
}

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
        let (task, token) = host.decide(TaskRequest::start(&request)?).await?;
        Ok(Response::new(wire::StartTaskResponse { task, token }))
    }

    async fn get_task(
        &self,
        request: Request<wire::GetTaskRequest>,
    ) -> Result<Response<wire::GetTaskResponse>, Status> {
        let host = self.gate.host()?;
        let task = Some(host.task(id("task_id", &request.get_ref().task_id)?)?);
        Ok(Response::new(wire::GetTaskResponse { task }))
    }

    async fn list_tasks(
        &self,
        request: Request<wire::ListTasksRequest>,
    ) -> Result<Response<wire::ListTasksResponse>, Status> {
        let host = self.gate.host()?;
        let list = page::List::of(request.get_ref());
        let listed = host.tasks(list, listing(request.get_ref()).or_refuse()?).await?;
        Ok(Response::new(listed))
    }

    async fn abort_task(
        &self,
        request: Request<wire::AbortTaskRequest>,
    ) -> Result<Response<wire::AbortTaskResponse>, Status> {
        let host = self.gate.host()?;
        let (task, token) = host.decide(TaskRequest::abort(&request)?).await?;
        Ok(Response::new(wire::AbortTaskResponse { task, token }))
    }

    async fn clear_task(
        &self,
        request: Request<wire::ClearTaskRequest>,
    ) -> Result<Response<wire::ClearTaskResponse>, Status> {
        let host = self.gate.host()?;
        let (task, token) = host.decide(TaskRequest::clear(&request)?).await?;
        Ok(Response::new(wire::ClearTaskResponse { task, token }))
    }

    type WatchTasksStream = Fenced<WatchStream<TaskFeed>>;

    async fn watch_tasks(
        &self,
        request: Request<wire::WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let host = self.gate.host()?;
        let stream = host.watch(request)?;
        Ok(Response::new(stream))
    }
}

impl Host {
    fn task(&self, id: TaskId) -> Result<wire::Task, Status> {
        let task = self.known(id)?.task.ok_or_else(|| {
            let advice = "it was never sent to this host, or it has expired";
            Fault::missing(FaultCode::TaskNotFound, format_args!("task {id}"), advice).about(id)
        });
        Ok(shown(&*task.or_refuse()?))
    }

    async fn tasks(&self, list: page::List, listing: Listing) -> Result<wire::ListTasksResponse, Status> {
        let store = Arc::clone(self.log.store());
        let listed = reads::on(store, move |reader| store::list(reader, &listing)).await;
        let (tasks, next) = listed.map_err(status::from_store)?;
        Ok(wire::ListTasksResponse {
            tasks,
            next_page_token: next.map(|key| list.token(&key)).unwrap_or_default(),
        })
    }

    fn watch(
        &self,
        request: Request<wire::WatchTasksRequest>,
    ) -> Result<Fenced<WatchStream<TaskFeed>>, Status> {
        let who = who(&request)?;
        let request = request.into_inner();
        let options = WatchOptions::read(
            request.start.as_ref(),
            request.ended_within.as_ref(),
            request.heartbeat_interval.as_ref(),
            request.include_progress,
            self.watches,
        )
        .or_refuse()?;
        let filter = Filter::read(request.filter.unwrap_or_default()).or_refuse()?;
        // A caller that is no engine may follow the host, whoever owns it.
        let engine = caller(&who).engine;
        let fence = engine.map(|call| self.presence.fence(call)).transpose();
        let fence = fence
            .inspect_err(|fault| self.tell_of_refusing(&who, "WatchTasks", fault))
            .or_refuse()?;
        let start = engine.and_then(|engine| engine.incarnation);
        let present = start.map(|start| self.presence.arrives(start));
        let feed = TaskFeed::new(filter, Arc::clone(&self.alive), present);
        let stream = watch::watch(Arc::clone(&self.log), feed, options)?;
        Ok(Fenced::new(stream, fence))
    }
}

fn listing(request: &wire::ListTasksRequest) -> Result<Listing, Fault> {
    let states = filter::values::<task_wire::TaskState>("states", &request.states, "a TaskState")?;
    let after = page::List::of(request).position(&request.page_token)?;
    if !after.is_empty() && after.len() != size_of::<u64>() {
        return Err(Fault::invalid(
            "page_token",
            "is not one that ListTasks returned; leave it empty to start at the beginning",
        ));
    }
    Ok(Listing {
        states: states.into_iter().filter_map(convert::state_from_wire).collect(),
        show_removed: request.show_removed,
        size: page::size(request.page_size)?,
        after,
    })
}
