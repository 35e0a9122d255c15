//! What the engine records. Every type here is a value: who changes it, and when, is decided elsewhere.

mod command;
mod entity;
mod event;
mod task;

pub use command::{Awaited, Command, CommandKind, CommandState, Outcome, Parameters, RequestKey, WaitingFor};
pub use entity::{Disk, DiskSpec, Domain, EntityKey, Holder, Holding, Host, Observation, Presence, Vm};
pub use event::{Event, EventCode, Severity};
pub use task::{AsyncTask, AsyncTaskState, Ending, Place, PlaceError, Purpose, ReportedState, Settled};
