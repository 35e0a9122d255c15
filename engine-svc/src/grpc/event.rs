//! `EventService`.

use common::fault::Fault;
use proto::engine::v1::event_service_server::EventService;
use proto::engine::v1::{EventKind, ListEventsRequest, ListEventsResponse, WatchEventsRequest};
use runtime::watch::{self, WatchStream};
use runtime::{page, status};
use tonic::{Request, Response, Status};

use super::api::Api;
use super::audit;
use super::feed::EventFeed;
use super::filter::EventFilter;
use super::list;
use super::watching::{options, since};
use crate::store::event;

#[tonic::async_trait]
impl EventService for Api {
    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let request = request.into_inner();
        let list = page::List::of(&request);
        let (filter, size, before) = decode_list(&request).map_err(|fault| status::from_fault(&fault))?;
        if filter.kind() == EventKind::Audit {
            let listed = audit::list(self.trail.as_ref(), filter, size, before).await;
            let (events, next) = listed.map_err(|fault| status::from_fault(&fault))?;
            return Ok(Response::new(ListEventsResponse {
                events,
                next_page_token: next.map(|key| list.token(&key)).unwrap_or_default(),
            }));
        }
        let (events, next) = self
            .read(move |reader| {
                list::page(
                    reader,
                    size,
                    &before,
                    |reader, before, limit| event::newest(reader, before, limit),
                    |_, event| Some(event).filter(|event| filter.selects(event)),
                )
            })
            .await?;
        Ok(Response::new(ListEventsResponse {
            events,
            next_page_token: next.map(|key| list.token(&key)).unwrap_or_default(),
        }))
    }

    type WatchEventsStream = WatchStream<EventFeed>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let filter =
            EventFilter::of_watch(request.filter.as_ref()).map_err(|fault| status::from_fault(&fault))?;
        let options = options(
            self.watches,
            request.start.as_ref(),
            request.ended_within.as_ref(),
            request.heartbeat_interval.as_ref(),
            request.include_progress,
        )?;
        let feed = EventFeed {
            filter,
            since: since(&options),
        };
        Ok(Response::new(watch::watch(self.log.clone(), feed, options)?))
    }
}

fn decode_list(request: &ListEventsRequest) -> Result<(EventFilter, usize, Vec<u8>), Fault> {
    Ok((
        EventFilter::of_list(request.filter.as_ref())?,
        page::size(request.page_size)?,
        page::List::of(request).position(&request.page_token)?,
    ))
}
