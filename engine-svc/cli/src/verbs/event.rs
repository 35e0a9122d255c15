use std::time::Duration;

use proto::engine::v1::{
    Event as EngineEvent, EventKind, Severity, list_events_request, watch_events_request,
};

use super::print_list;
use crate::args::{Event, EventFilter, Severity as Least};
use crate::engine::{Engine, only_id};
use crate::failure::Failure;
use crate::follow;
use crate::output::Output;

/// How far back a tail begins.
const LATELY: Duration = Duration::from_secs(600);

pub(super) async fn run(verb: Event, engine: &Engine, output: &Output) -> Result<(), Failure> {
    match verb {
        Event::List { audit, filter, size } => {
            let kind = match audit {
                true => EventKind::Audit,
                false => EventKind::Unspecified,
            };
            let filter = list_events_request::Filter {
                kind: kind.into(),
                minimum_severity: severity(&filter) as i32,
                root_command_id: job(&filter)?,
                entity_id: about(engine, &filter).await?,
                ..Default::default()
            };
            print_list(output, &engine.events(filter, size.limit).await?)
        }
        Event::Tail { filter } => {
            let filter = watch_events_request::Filter {
                minimum_severity: severity(&filter) as i32,
                root_command_id: job(&filter)?,
                entity_id: about(engine, &filter).await?,
                ..Default::default()
            };
            follow::all::<EngineEvent>(engine, output, filter, LATELY).await
        }
    }
}

fn severity(filter: &EventFilter) -> Severity {
    match filter.severity {
        Least::Info => Severity::Info,
        Least::Warning => Severity::Warning,
        Least::Error => Severity::Error,
        Least::Alert => Severity::Alert,
    }
}

fn job(filter: &EventFilter) -> Result<String, Failure> {
    filter
        .job
        .as_deref()
        .map_or(Ok(String::new()), |job| only_id("job", job))
}

async fn about(engine: &Engine, filter: &EventFilter) -> Result<String, Failure> {
    match &filter.about {
        Some(about) => engine.entity(about).await,
        None => Ok(String::new()),
    }
}
