//! The storage root: the directory that holds the domains of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::id::{DomainId, HostId, ImageId, VolumeId};
use common::{Fault, FaultCode};
use rustix::fs::{CWD, Gid, Uid};

use crate::confine::{Confiner, StorageUser};
use crate::domain::{self, Domain, DomainInfo, ImageName, WritableDomain, WriterSlot};
use crate::file::{Dir, DirContext, FileError, FileHook, FileId, Modes, NoHook, mount_of};
use crate::qemu_img::{NO_PROGRESS_TIMEOUT, QemuImg};
use crate::under_way::UnderWay;
use crate::volume::VolumeInfo;

/// How a root is opened.
#[derive(Clone)]
pub struct Options {
    /// This host: written into the lock file of the domains that it writes to.
    pub host_id: HostId,
    /// Where the processes of tasks are kept track of: a directory of the service's own, in its data directory, made
    /// when there is need of it.
    pub runs: PathBuf,
    /// Looks at every change that is made.
    pub hook: Arc<dyn FileHook>,
    /// The program that creates and reads images.
    pub qemu_img: PathBuf,
    /// Who confines it.
    pub confiner: Confiner,
    /// Who owns what is made, and as whom the program runs, where the service is root.
    pub storage_user: StorageUser,
    /// For how long a task's process may move no byte.
    pub no_progress_timeout: Duration,
}

impl Options {
    /// For a host that keeps track of processes there, with no hook and the `qemu-img` of the search path.
    pub fn new(host_id: HostId, runs: PathBuf) -> Self {
        Self {
            host_id,
            runs,
            hook: Arc::new(NoHook),
            qemu_img: PathBuf::from("qemu-img"),
            confiner: Confiner::this_program(),
            storage_user: StorageUser::default(),
            no_progress_timeout: NO_PROGRESS_TIMEOUT,
        }
    }
}

/// A domain in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDomain {
    /// Its id: the name of its directory.
    pub id: DomainId,
    /// Its description, or what is wrong with it.
    pub info: Result<DomainInfo, Fault>,
}

/// Where the configured name of a root leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameTarget {
    /// To the directory that is open, by the mount by which it was opened.
    Same,
    /// To another one, or by another mount.
    Replaced,
    /// To no directory.
    Missing,
}

/// The open storage root. Its methods block; call them where that is allowed. What is open stays open whatever becomes
/// of its name: [`crate::NamedRoot`] compares the two.
pub struct StorageRoot {
    dir: Dir,
    /// As configured; links in it may be turned elsewhere later.
    name: PathBuf,
    path: PathBuf,
    mount: Option<u64>,
    /// Another directory stood here when the service had begun.
    opened_anew: bool,
    host_id: HostId,
    runs: PathBuf,
    qemu_img: QemuImg,
    /// The writer's locks that this process holds, until it ends or the domain is formatted.
    writers: Mutex<BTreeMap<DomainId, Arc<WriterSlot>>>,
    under_way: UnderWay,
}

impl StorageRoot {
    /// Opens the root, and purges domains that were formatted and not yet purged.
    ///
    /// # Errors
    /// Of the file system, above all that there is no such directory; `INVALID_ARGUMENT` for a path with control
    /// characters.
    pub fn open(path: &Path, options: Options) -> Result<Self, Fault> {
        let fail = |source| FileError {
            action: "open the storage root",
            path: path.to_owned(),
            source,
        };
        let name = std::path::absolute(path).map_err(fail)?;
        let path = path.canonicalize().map_err(fail)?;
        let we_are_root = rustix::process::geteuid().is_root();
        let user = options.storage_user;
        let owner = we_are_root.then(|| (Uid::from_raw(user.uid()), Gid::from_raw(user.gid())));
        check_path(&path)?;
        let context = DirContext {
            hook: options.hook,
            owner,
            modes: Modes::OVIRT,
        };
        let dir = Dir::open_root(&path, Arc::new(context))?;
        domain::purge_leftovers(&dir)?;
        Ok(Self {
            mount: mount_of(&dir, Path::new("")),
            dir,
            name,
            path,
            opened_anew: false,
            host_id: options.host_id,
            runs: options.runs,
            qemu_img: QemuImg::new(options.qemu_img, options.confiner, user)
                .stopped_after(options.no_progress_timeout),
            writers: Mutex::default(),
            under_way: UnderWay::default(),
        })
    }

    /// The same, in place of another one.
    pub(crate) fn opened_anew(self) -> Self {
        Self {
            opened_anew: true,
            ..self
        }
    }

    /// Its configured name, from the root of all names.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// Where its name leads now.
    ///
    /// # Errors
    /// Of the file system: where the name leads cannot be told.
    pub(crate) fn name_target(&self) -> Result<NameTarget, Fault> {
        let found = FileId::of_directory(&self.name).map_err(|source| FileError {
            action: "look at the storage root",
            path: self.name.clone(),
            source: source.into(),
        })?;
        Ok(match found {
            None => NameTarget::Missing,
            Some(file_id) if file_id != self.dir.file_id()? => NameTarget::Replaced,
            Some(_) if mount_of(CWD, &self.name) != self.mount => NameTarget::Replaced,
            Some(_) => NameTarget::Same,
        })
    }

    /// Refuses to go on where the name does not lead here any more. The same directory by another mount is here.
    ///
    /// # Errors
    /// `STORAGE_ROOT_GONE`, `STORAGE_REPLACED`; those of the file system.
    pub(crate) fn check_name(&self) -> Result<(), Fault> {
        match self.name_target()? {
            NameTarget::Same => Ok(()),
            NameTarget::Replaced
                if FileId::of_directory(&self.name).ok().flatten() == Some(self.dir.file_id()?) =>
            {
                Ok(())
            }
            NameTarget::Replaced => Err(Fault::new(
                FaultCode::StorageReplaced,
                format!(
                    "the storage root's name {} leads to another directory than the one that the task worked in: it was mounted over, unmounted, moved or restored; check what is there, then send the task again",
                    self.name.display()
                ),
            )),
            NameTarget::Missing => Err(self.gone()),
        }
    }

    /// The fault for a name that leads nowhere.
    pub(crate) fn gone(&self) -> Fault {
        Fault::new(
            FaultCode::StorageRootGone,
            format!(
                "the directory {}, which is the storage root, no longer exists: it was moved or removed; put it back, or mount it again, and the service continues with it",
                self.name.display()
            ),
        )
    }

    pub(crate) fn under_way(&self) -> &UnderWay {
        &self.under_way
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program that creates and reads images.
    pub fn qemu_img(&self) -> &QemuImg {
        &self.qemu_img
    }

    /// The directory of run directories: not on storage.
    pub(crate) fn runs(&self) -> &Path {
        &self.runs
    }

    pub(crate) fn host_id(&self) -> HostId {
        self.host_id
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The domains in the root, each described or with what is wrong with it: one bad domain hides no other. What
    /// has the name of a domain and is no directory is shown too, with what it is.
    ///
    /// # Errors
    /// Of the file system, for the root itself.
    pub fn domains(&self) -> Result<Vec<ListedDomain>, Fault> {
        Ok(self.domain_ids()?.into_iter().map(|id| self.listed(id)).collect())
    }

    /// The ids of what [`StorageRoot::domains`] describes, sorted.
    ///
    /// # Errors
    /// Of the file system, for the root itself.
    pub fn domain_ids(&self) -> Result<BTreeSet<DomainId>, Fault> {
        let found = self.dir.entries()?.into_iter();
        Ok(found.filter_map(|e| e.name.to_str()?.parse().ok()).collect())
    }

    /// One of them.
    pub fn listed(&self, id: DomainId) -> ListedDomain {
        ListedDomain {
            id,
            info: self.domain(id).and_then(|d| d.info()),
        }
    }

    /// Opens a domain for reading.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, and those of its metadata.
    pub fn domain(&self, id: DomainId) -> Result<Domain, Fault> {
        Domain::open(&self.dir, id).map_err(|mut fault| {
            if fault.code == FaultCode::DomainNotFound && self.opened_anew {
                let message = format!(
                    "{}. Since the service started, {} was replaced by another directory: check whether its file system is mounted",
                    fault.message,
                    self.name.display()
                );
                fault.message = message.into();
            }
            fault
        })
    }

    /// Bytes of a domain's file system: all of them, and those free for us.
    ///
    /// # Errors
    /// As [`StorageRoot::domain`]; of the file system.
    pub fn space(&self, id: DomainId) -> Result<(u64, u64), Fault> {
        self.domain(id)?.space()
    }

    /// Opens a domain for writing. Its writer's lock is taken at the first time and kept, and taken anew where another
    /// file stands under the lock's name.
    ///
    /// # Errors
    /// `DOMAIN_READ_ONLY` with the reason; `DOMAIN_LOCKED` naming the other writer; as [`StorageRoot::domain`].
    pub fn writable(&self, id: DomainId) -> Result<WritableDomain, Fault> {
        let domain = self.domain(id)?;
        let writer = self.slot(id).writer(&domain, self.host_id)?;
        Ok(WritableDomain::new(domain, writer))
    }

    /// Lets go of a domain that is no more.
    pub(crate) fn forget_writer(&self, id: DomainId) {
        self.slot(id).forget();
    }

    /// The map is locked only to find the domain's own slot: a domain that hangs holds up no other.
    fn slot(&self, id: DomainId) -> Arc<WriterSlot> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.entry(id).or_default().clone()
    }

    /// The images of a domain, and what is left of deletions.
    ///
    /// # Errors
    /// As [`StorageRoot::domain`].
    pub fn images(&self, domain: DomainId) -> Result<Vec<ImageName>, Fault> {
        self.domain(domain)?.image_names()
    }

    /// The volumes of an image.
    ///
    /// # Errors
    /// As [`StorageRoot::domain`]; `IMAGE_NOT_FOUND`.
    pub fn volumes(&self, domain: DomainId, image: ImageId) -> Result<Vec<VolumeInfo>, Fault> {
        self.domain(domain)?.volumes(image)
    }

    /// One volume.
    ///
    /// # Errors
    /// As [`StorageRoot::volumes`]; `VOLUME_NOT_FOUND`.
    pub fn volume(&self, domain: DomainId, image: ImageId, volume: VolumeId) -> Result<VolumeInfo, Fault> {
        self.domain(domain)?.volume(image, volume)
    }
}

/// A domain's metadata holds the path of its root, in a line. One that ended the line would make a domain that nobody
/// can read.
fn check_path(path: &Path) -> Result<(), Fault> {
    let text = path.to_string_lossy();
    match text.chars().find(|letter| common::text::steers(*letter)) {
        None => Ok(()),
        Some(found) => Err(Fault::new(
            FaultCode::InvalidArgument,
            format!(
                "the path of the storage root, {text:?}, has the control character {}, which the metadata of its domains cannot store; rename the directory",
                found.escape_default()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<StorageRoot>();
    }
}
