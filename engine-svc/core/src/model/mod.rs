//! What the engine records. Every type here is a value: who changes it, and when, is decided elsewhere.

mod command;
#[cfg(test)]
mod diagrams;
mod entity;
mod event;
mod moves;
mod task;

pub use command::{Awaited, Command, CommandKind, CommandState, Outcome, Parameters, RequestKey, WaitingFor};
pub use entity::{Disk, DiskSpec, Domain, EntityKey, Holder, Holding, Host, Observation, Presence, Vm};
pub use event::{Event, EventCode, Severity};
pub use moves::{AsyncTaskEvent, CommandEvent, IllegalMove};
pub use task::{AsyncTask, AsyncTaskState, Ending, Place, PlaceError, Purpose, ReportedState, Settled};
