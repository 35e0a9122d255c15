//! The records of the engine. The types are plain values: `step` decides who changes them and when.

mod call;
mod command;
#[cfg(test)]
mod diagrams;
mod entity;
mod event;
mod moves;
mod parameters;
mod step_id;
mod task;

pub use call::HostCall;
pub use command::{Awaited, Command, CommandState, Outcome, RequestKey, WaitingFor};
pub use entity::{
    Blocker, Blockers, Disk, DiskSpec, Domain, EntityKey, Holder, Holding, Host, NewDisk, Observation,
    OtherLife, Presence, Vm,
};
pub use event::{Event, EventCode, Severity};
pub use moves::{AsyncTaskEvent, CommandEvent, IllegalMove};
pub use parameters::*;
pub use step_id::{StepId, StepKind, TaskStep};
pub use task::{AsyncTask, AsyncTaskState, Ending, Place, PlaceError, Purpose, ReportedState, Settled};

pub(crate) use task::PlannedTask;
