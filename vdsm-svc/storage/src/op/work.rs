//! The context of every step of an operation.

use common::id::TaskId;
use common::{Fault, FaultCode};

use super::OpContext;
use crate::process::IoCounters;
use crate::qemu_img::{Ended, Given, Job, Limits};
use crate::root::StorageRoot;
use crate::run_dir::{self, RunDir};

/// A running task.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) root: &'a StorageRoot,
    pub(super) task: TaskId,
    pub(super) ctx: &'a dyn OpContext,
}

impl Work<'_> {
    /// Runs a command line of `qemu-img` on open files, until it ends, is aborted, or makes no progress for too long.
    /// `moved` is called with its counters repeatedly, and may stop it.
    ///
    /// # Errors
    /// As [`crate::qemu_img::QemuImg::run`].
    pub(super) fn qemu_img(
        &self,
        files: Vec<Given>,
        argv: &[String],
        limits: Limits,
        moved: &dyn Fn(IoCounters) -> Result<(), Fault>,
    ) -> Result<Ended, Fault> {
        let run_dir = RunDir::open(self.root, self.task)?;
        self.root.under_way().spawns(self.task);
        self.root.qemu_img().run(Job {
            argv,
            files,
            run_dir: &run_dir,
            limits,
            stop: &|| self.ctx.aborted(),
            moved,
        })
    }

    /// # Errors
    /// `PROCESS_STUCK` if a process of the task is left.
    pub(super) fn no_process_left(&self) -> Result<(), Fault> {
        if run_dir::is_quiet(self.root, self.task)? {
            return Ok(());
        }
        Err(self.a_process_is_left())
    }

    /// The same for an operation that is undone: if it cannot be determined, but this process has begun the operation
    /// and started no process for it, there is none.
    ///
    /// # Errors
    /// As [`Work::no_process_left`]; those of the file system.
    pub(super) fn all_have_ended(&self) -> Result<(), Fault> {
        match run_dir::is_quiet(self.root, self.task) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.a_process_is_left()),
            Err(_) if self.root.under_way().never_spawned(self.task) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    fn a_process_is_left(&self) -> Fault {
        let task = self.task;
        Fault::new(
            FaultCode::ProcessStuck,
            format!("a process of task {task} is still running; nothing is undone until it ends"),
        )
        .about(task)
    }
}
