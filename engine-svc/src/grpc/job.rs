//! `JobService`.

use std::collections::HashMap;
use std::sync::Mutex;

use common::fault::Fault;
use common::id::CommandId;
use proto::convert;
use proto::engine::v1::job_service_server::JobService;
use proto::engine::v1::{
    GetJobRequest, GetJobResponse, Job, ListJobsRequest, ListJobsResponse, WatchJobsRequest,
};
use runtime::watch::{self, WatchStream};
use runtime::{page, reads, status};
use tonic::{Request, Response, Status};

use super::api::{self, Api};
use super::feed::JobFeed;
use super::filter::CommandFilter;
use super::list;
use super::watching::{options, since};
use crate::store::command::COMMANDS;
use crate::store::tree::Tree;

#[tonic::async_trait]
impl JobService for Api {
    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        let asked = request.into_inner().job_id;
        let id: CommandId = convert::id("job_id", &asked).map_err(|fault| status::from_fault(&fault))?;
        let tree = self.read(move |reader| Tree::read(reader, id)).await?;
        let job = self.show.job(tree).ok_or_else(|| api::no_job(id))?;
        Ok(Response::new(GetJobResponse { job: Some(job) }))
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        let request = request.into_inner();
        let list = page::List::of(&request);
        let (filter, size, before) = decode_list(&request).map_err(|fault| status::from_fault(&fault))?;
        let show = self.show.clone();
        let (jobs, next) = self
            .read(move |reader| {
                list::page(
                    reader,
                    size,
                    &before,
                    |reader, before, limit| COMMANDS.newest(reader, before, limit),
                    |reader, record| -> Option<Job> {
                        let root = record.command.filter(|command| filter.selects(command))?;
                        let tree = Tree::read(reader, root.command_id.parse().ok()?);
                        let tree = tree.inspect_err(|error| reads::left_out(error, "a job")).ok()?;
                        show.job(tree)
                    },
                )
            })
            .await?;
        Ok(Response::new(ListJobsResponse {
            jobs,
            next_page_token: next.map(|key| list.token(&key)).unwrap_or_default(),
        }))
    }

    type WatchJobsStream = WatchStream<JobFeed>;

    async fn watch_jobs(
        &self,
        request: Request<WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let request = request.into_inner();
        let filter = CommandFilter::of_job_watch(request.filter.as_ref())
            .map_err(|fault| status::from_fault(&fault))?;
        let options = options(
            self.watches,
            request.start.as_ref(),
            request.ended_within.as_ref(),
            request.heartbeat_interval.as_ref(),
            request.include_progress,
        )?;
        let feed = JobFeed {
            filter,
            since: since(&options),
            show: self.show.clone(),
            selected: Mutex::new(HashMap::new()),
        };
        Ok(Response::new(watch::watch(self.log.clone(), feed, options)?))
    }
}

fn decode_list(request: &ListJobsRequest) -> Result<(CommandFilter, usize, Vec<u8>), Fault> {
    Ok((
        CommandFilter::of_job_list(request.filter.as_ref())?,
        page::size(request.page_size)?,
        page::List::of(request).position(&request.page_token)?,
    ))
}
