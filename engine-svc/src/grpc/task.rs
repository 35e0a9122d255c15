//! `TaskService`.

use common::fault::{Fault, FaultCode};
use common::id::TaskId;
use proto::convert;
use proto::engine::v1::task_service_server::TaskService;
use proto::engine::v1::{
    GetTaskRequest, GetTaskResponse, ListTasksRequest, ListTasksResponse, WatchTasksRequest,
};
use runtime::watch::{self, WatchStream};
use runtime::{page, status};
use tonic::{Request, Response, Status};

use super::api::Api;
use super::feed::TaskFeed;
use super::filter::TaskFilter;
use super::list;
use super::watching::{options, since};
use crate::store::task::TASKS;

#[tonic::async_trait]
impl TaskService for Api {
    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        let asked = request.into_inner().task_id;
        let id: TaskId = convert::id("task_id", &asked).map_err(|fault| status::from_fault(&fault))?;
        let found = self.read(move |reader| TASKS.get(reader, id.as_bytes())).await?;
        let task = found.and_then(|record| record.task);
        let task = task.ok_or_else(|| {
            let what = format_args!("task {id}");
            let fault = Fault::missing(FaultCode::TaskNotFound, what, "it may have expired");
            status::from_fault(&fault.about("task_id"))
        })?;
        Ok(Response::new(GetTaskResponse {
            task: Some(self.show.task(task)),
        }))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        let request = request.into_inner();
        let list = page::List::of(&request);
        let (filter, size, before) = decode_list(&request).map_err(|fault| status::from_fault(&fault))?;
        let show = self.show.clone();
        let (tasks, next) = self
            .read(move |reader| {
                list::page(
                    reader,
                    size,
                    &before,
                    |reader, before, limit| TASKS.newest(reader, before, limit),
                    |_, record| Some(show.task(record.task.filter(|task| filter.selects(task))?)),
                )
            })
            .await?;
        Ok(Response::new(ListTasksResponse {
            tasks,
            next_page_token: next.map(|key| list.token(&key)).unwrap_or_default(),
        }))
    }

    type WatchTasksStream = WatchStream<TaskFeed>;

    async fn watch_tasks(
        &self,
        request: Request<WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let request = request.into_inner();
        let filter =
            TaskFilter::of_watch(request.filter.as_ref()).map_err(|fault| status::from_fault(&fault))?;
        let options = options(
            self.watches,
            request.start.as_ref(),
            request.ended_within.as_ref(),
            request.heartbeat_interval.as_ref(),
            request.include_progress,
        )?;
        let feed = TaskFeed {
            filter,
            since: since(&options),
            show: self.show.clone(),
        };
        Ok(Response::new(watch::watch(self.log.clone(), feed, options)?))
    }
}

fn decode_list(request: &ListTasksRequest) -> Result<(TaskFilter, usize, Vec<u8>), Fault> {
    Ok((
        TaskFilter::of_list(request.filter.as_ref())?,
        page::size(request.page_size)?,
        page::List::of(request).position(&request.page_token)?,
    ))
}
