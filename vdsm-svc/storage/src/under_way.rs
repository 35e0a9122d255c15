//! What this process knows of the operations that it began itself. A restart knows nothing of it, and asks storage.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::id::{DomainId, TaskId};
use common::{Fault, FaultCode};

use crate::file::FileId;
use crate::names;
use crate::root::StorageRoot;

/// The directories of a domain, by which it is known again: its own, and the two below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DomainDirs {
    domain: DomainId,
    file_ids: Option<[FileId; 3]>,
}

impl DomainDirs {
    /// Where the name of a domain leads in a root.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn of(root: &StorageRoot, domain: DomainId) -> Result<Self, Fault> {
        let Some(dir) = root.dir().dir(domain.to_string())? else {
            return Ok(Self {
                domain,
                file_ids: None,
            });
        };
        let file_ids = match (dir.file_id_of(names::DOM_MD)?, dir.file_id_of(names::IMAGES)?) {
            (Some(dom_md), Some(images)) => Some([dir.file_id()?, dom_md, images]),
            _ => None,
        };
        Ok(Self { domain, file_ids })
    }

    /// Whether the configured name still leads to what was worked in: the root, the domain in it, and the writer's lock
    /// of the domain, which is taken again where its file was replaced and nobody else has it.
    ///
    /// # Errors
    /// `STORAGE_ROOT_GONE`, `STORAGE_REPLACED`; those of [`StorageRoot::writable`]; those of the file system.
    pub(crate) fn confirm(self, root: &StorageRoot) -> Result<(), Fault> {
        self.is_there(root)?;
        root.writable(self.domain).map(drop)
    }

    /// Whether the configured name still leads to what was read from, in a domain that may be read-only.
    ///
    /// # Errors
    /// `STORAGE_ROOT_GONE`, `STORAGE_REPLACED`; those of the file system.
    pub(crate) fn is_there(self, root: &StorageRoot) -> Result<(), Fault> {
        root.check_name()?;
        if self.file_ids.is_none() || Self::of(root, self.domain)? != self {
            return Err(self.replaced());
        }
        Ok(())
    }

    fn replaced(self) -> Fault {
        let domain = self.domain;
        Fault::new(
            FaultCode::StorageReplaced,
            format!(
                "the directory of domain {domain} is no longer the one that the task worked in: it was moved, mounted over or restored; check what is there, then send the task again"
            ),
        )
        .about(domain)
    }
}

/// An operation that this process began.
#[derive(Debug, Clone, Default)]
struct Begun {
    dirs: Option<DomainDirs>,
    /// A process was started for it, or was about to be.
    spawned: bool,
    /// What it emptied is removed, or is about to be.
    removes: bool,
    /// What it has made, wherever it is.
    made: Option<Arc<File>>,
}

/// See the module. An entry goes with the end of its task.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(Mutex<BTreeMap<TaskId, Begun>>);

impl UnderWay {
    /// An operation begins, in a domain if it works in one.
    pub(crate) fn begin(&self, task: TaskId, dirs: Option<DomainDirs>) {
        let begun = Begun {
            dirs,
            ..Begun::default()
        };
        self.locked().insert(task, begun);
    }

    /// A process is about to be started for a task.
    pub(crate) fn spawns(&self, task: TaskId) {
        if let Some(begun) = self.locked().get_mut(&task) {
            begun.spawned = true;
        }
    }

    /// The task is about to remove what it has emptied.
    pub(crate) fn removes(&self, task: TaskId) {
        if let Some(begun) = self.locked().get_mut(&task) {
            begun.removes = true;
        }
    }

    /// Whether what the task was to remove may be gone because it did so. Of what another process began that cannot be told.
    pub(crate) fn may_have_removed(&self, task: TaskId) -> bool {
        self.locked().get(&task).is_none_or(|begun| begun.removes)
    }

    /// The task has made this file.
    pub(crate) fn made(&self, task: TaskId, file: &File) {
        if let (Some(begun), Ok(file)) = (self.locked().get_mut(&task), file.try_clone()) {
            begun.made = Some(Arc::new(file));
        }
    }

    /// Whether the file that the task has made, in this process, has a name, whichever.
    pub(crate) fn made_is_somewhere(&self, task: TaskId) -> bool {
        let made = self.locked().get(&task).and_then(|begun| begun.made.clone());
        made.is_some_and(|file| file.metadata().is_ok_and(|about| about.nlink() > 0))
    }

    /// Whether this process began the task and started nothing for it.
    pub(crate) fn never_spawned(&self, task: TaskId) -> bool {
        self.locked().get(&task).is_some_and(|begun| !begun.spawned)
    }

    /// Refuses to undo in another directory than the one that was worked in: what stands there now is not the task's.
    ///
    /// # Errors
    /// `STORAGE_REPLACED` naming what is left; those of the file system.
    pub(crate) fn check_same(&self, root: &StorageRoot, task: TaskId) -> Result<(), Fault> {
        let begun = self.locked().get(&task).cloned();
        let Some(dirs) = begun.and_then(|begun| begun.dirs) else {
            return Ok(());
        };
        if DomainDirs::of(root, dirs.domain)? == dirs {
            return Ok(());
        }
        let domain = dirs.domain;
        Err(Fault::new(
            FaultCode::StorageReplaced,
            format!(
                "what task {task} began is in the previous directory of domain {domain} and cannot be undone from here; nothing was touched in the present one. If the previous one comes back, look for an image with a file .vdsm-svc-{task}, or with what the task was to create, and delete it"
            ),
        )
        .about(domain))
    }

    /// The task is over.
    pub(crate) fn end(&self, task: TaskId) {
        self.locked().remove(&task);
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<TaskId, Begun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
