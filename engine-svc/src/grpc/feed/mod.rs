//! What each Watch RPC shows of the engine's history through a client's filter.

mod command;
mod event;
mod job;
mod pages;
mod task;

pub(crate) use command::CommandFeed;
pub(crate) use event::EventFeed;
pub(crate) use job::JobFeed;
pub(crate) use task::TaskFeed;
