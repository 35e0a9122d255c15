//! Watching as any client may: every frame of every Watch RPC recorded as it arrives, across lost connections and
//! restarts, and checked from outside against what `task/v1/watch.proto` promises.

mod agree;
mod check;
mod record;
mod recorder;
mod rpc;
mod watchers;

pub use agree::{Reference, disagreements};
pub use check::violations;
pub use record::{Arrived, Changes, Frame, Record};
pub use recorder::Recorder;
pub use rpc::{Commands, Events, Frames, HostTasks, Item, Jobs, Selection, Start, Tasks, Watch};
pub use watchers::{EngineWatchers, Watchers};
