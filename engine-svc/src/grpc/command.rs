//! `CommandService`.

use common::fault::Fault;
use common::id::CommandId;
use engine_core::Input;
use proto::convert;
use proto::engine::v1::command_service_server::CommandService;
use proto::engine::v1::{
    AbandonCommandRequest, AbandonCommandResponse, CancelCommandRequest, CancelCommandResponse,
    GetCommandRequest, GetCommandResponse, ListCommandsRequest, ListCommandsResponse, RetryCommandRequest,
    RetryCommandResponse, WaitCommandRequest, WaitCommandResponse, WatchCommandsRequest,
};
use runtime::watch::{self, WatchStream};
use runtime::{page, reads, status};
use tonic::{Request, Response, Status};

use super::api::{self, Api};
use super::feed::CommandFeed;
use super::filter::CommandFilter;
use super::watching::{options, since};
use super::{field, list, wait};
use crate::store::command::COMMANDS;

#[tonic::async_trait]
impl CommandService for Api {
    async fn get_command(
        &self,
        request: Request<GetCommandRequest>,
    ) -> Result<Response<GetCommandResponse>, Status> {
        let id = id(&request.into_inner().command_id)?;
        let show = self.show.clone();
        let command = self
            .read(move |reader| {
                let found = COMMANDS.get(reader, id.as_bytes())?;
                let command = found.and_then(|record| record.command);
                command
                    .map(|command| show.command_now(reader, command))
                    .transpose()
            })
            .await?;
        let command = Some(command.ok_or_else(|| api::no_command(id))?);
        Ok(Response::new(GetCommandResponse { command }))
    }

    async fn list_commands(
        &self,
        request: Request<ListCommandsRequest>,
    ) -> Result<Response<ListCommandsResponse>, Status> {
        let request = request.into_inner();
        let list = page::List::of(&request);
        let (filter, size, before) = decode_list(&request).map_err(|fault| status::from_fault(&fault))?;
        let show = self.show.clone();
        let (commands, next) = self
            .read(move |reader| {
                list::page(
                    reader,
                    size,
                    &before,
                    |reader, before, limit| COMMANDS.newest(reader, before, limit),
                    |reader, record| {
                        let command = record.command.filter(|command| filter.selects(command))?;
                        let shown = show.command_now(reader, command);
                        shown
                            .inspect_err(|error| reads::left_out(error, "a command"))
                            .ok()
                    },
                )
            })
            .await?;
        Ok(Response::new(ListCommandsResponse {
            commands,
            next_page_token: next.map(|key| list.token(&key)).unwrap_or_default(),
        }))
    }

    async fn wait_command(
        &self,
        request: Request<WaitCommandRequest>,
    ) -> Result<Response<WaitCommandResponse>, Status> {
        let request = request.into_inner();
        let id = id(&request.command_id)?;
        let timeout = wait::timeout(request.timeout.as_ref()).map_err(|fault| status::from_fault(&fault))?;
        let (command, done) = wait::wait(self, id, timeout).await?;
        Ok(Response::new(WaitCommandResponse {
            command: Some(command),
            done,
        }))
    }

    async fn cancel_command(
        &self,
        request: Request<CancelCommandRequest>,
    ) -> Result<Response<CancelCommandResponse>, Status> {
        let caller = api::caller(&request)?;
        let user = caller.user.clone();
        let command_id = id(&request.into_inner().command_id)?;
        let accepted = self
            .accept_about(
                "CancelCommand",
                &caller,
                command_id,
                Input::Cancel { command_id, user },
            )
            .await?;
        Ok(Response::new(CancelCommandResponse {
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }

    async fn retry_command(
        &self,
        request: Request<RetryCommandRequest>,
    ) -> Result<Response<RetryCommandResponse>, Status> {
        let caller = api::caller(&request)?;
        let user = caller.user.clone();
        let command_id = id(&request.into_inner().command_id)?;
        let accepted = self
            .accept_about(
                "RetryCommand",
                &caller,
                command_id,
                Input::Retry { command_id, user },
            )
            .await?;
        Ok(Response::new(RetryCommandResponse {
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }

    async fn abandon_command(
        &self,
        request: Request<AbandonCommandRequest>,
    ) -> Result<Response<AbandonCommandResponse>, Status> {
        let caller = api::caller(&request)?;
        let user = caller.user.clone();
        let request = request.into_inner();
        let command_id = id(&request.command_id)?;
        let reason = field::name("reason", &request.reason).map_err(|fault| status::from_fault(&fault))?;
        let input = Input::Abandon {
            command_id,
            user,
            reason,
        };
        let accepted = self
            .accept_about("AbandonCommand", &caller, command_id, input)
            .await?;
        Ok(Response::new(AbandonCommandResponse {
            command: Some(accepted.command),
            token: accepted.token,
        }))
    }

    type WatchCommandsStream = WatchStream<CommandFeed>;

    async fn watch_commands(
        &self,
        request: Request<WatchCommandsRequest>,
    ) -> Result<Response<Self::WatchCommandsStream>, Status> {
        let request = request.into_inner();
        let filter =
            CommandFilter::of_watch(request.filter.as_ref()).map_err(|fault| status::from_fault(&fault))?;
        let options = options(
            self.watches,
            request.start.as_ref(),
            request.ended_within.as_ref(),
            request.heartbeat_interval.as_ref(),
            request.include_progress,
        )?;
        let feed = CommandFeed {
            filter,
            since: since(&options),
            show: self.show.clone(),
        };
        Ok(Response::new(watch::watch(self.log.clone(), feed, options)?))
    }
}

fn id(text: &str) -> Result<CommandId, Status> {
    convert::id("command_id", text).map_err(|fault| status::from_fault(&fault))
}

fn decode_list(request: &ListCommandsRequest) -> Result<(CommandFilter, usize, Vec<u8>), Fault> {
    Ok((
        CommandFilter::of_list(request.filter.as_ref())?,
        page::size(request.page_size)?,
        page::List::of(request).position(&request.page_token)?,
    ))
}
