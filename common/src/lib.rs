//! The vocabulary that the engine and the hosts share.
//!
//! Everything here is pure: no IO, no clock, no randomness, no async runtime, no wire format. Times and new ids come
//! from the caller.

pub mod age;
pub mod fault;
pub mod id;
pub mod lock;
pub mod operation;
pub mod revision;
pub mod task;
pub mod text;
pub mod time;
pub mod words;

pub use fault::{Fault, FaultCode};
pub use operation::{
    Allocation, CopyVolume, CreateVolume, DeleteImage, ExtendVolume, Noop, Operation, Verb, VolumeAddress,
    VolumeFormat,
};
pub use revision::{Revision, Start, Token};
pub use task::{TaskResult, TaskState, TaskStatus};
pub use time::Timestamp;
pub use words::{Label, Words};
