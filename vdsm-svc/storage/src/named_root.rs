//! The storage root by its configured name. An open directory stays the same when another one is mounted over it or
//! moved into its place, so the name is compared with the open directory before each use.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use common::Fault;

use crate::qemu_img::QemuImg;
use crate::root::{NameTarget, Options, StorageRoot};

/// What is done with a root that was reopened.
type Welcome = Box<dyn Fn(&StorageRoot) + Send + Sync>;

/// See the module. [`NamedRoot::now`] is the only way to the domains.
pub struct NamedRoot {
    name: PathBuf,
    options: Options,
    qemu_img: QemuImg,
    opened: Mutex<Opened>,
    /// Held while the root is opened: others wait, and use the root that was opened.
    opening: Mutex<()>,
    welcome: OnceLock<Welcome>,
}

struct Opened {
    now: Arc<StorageRoot>,
    /// Previous roots, as long as tasks work in them. If one comes back it is used again, because it holds its
    /// writers' locks.
    before: Vec<Weak<StorageRoot>>,
}

impl NamedRoot {
    /// Opens the directory that has the name now.
    ///
    /// # Errors
    /// As [`StorageRoot::open`].
    pub fn open(name: &Path, options: Options) -> Result<Self, Fault> {
        let now = StorageRoot::open(name, options.clone())?;
        Ok(Self {
            name: now.name().to_owned(),
            options,
            qemu_img: now.qemu_img().clone(),
            opened: Mutex::new(Opened {
                now: Arc::new(now),
                before: Vec::new(),
            }),
            opening: Mutex::new(()),
            welcome: OnceLock::new(),
        })
    }

    /// Has `welcome` called for each root that is opened from now on. Only the first call of this takes effect.
    pub fn welcome(&self, welcome: impl Fn(&StorageRoot) + Send + Sync + 'static) {
        let _ = self.welcome.set(Box::new(welcome));
    }

    /// The program that creates and reads images.
    pub fn qemu_img(&self) -> &QemuImg {
        &self.qemu_img
    }

    /// The directory that the name leads to now, reopened if it is another one than before.
    ///
    /// # Errors
    /// `STORAGE_ROOT_GONE` if the name leads nowhere; as [`StorageRoot::open`].
    pub fn now(&self) -> Result<Arc<StorageRoot>, Fault> {
        let held = Arc::clone(&self.opened().now);
        match held.name_target()? {
            NameTarget::Same => Ok(held),
            NameTarget::Missing => Err(held.gone()),
            NameTarget::Replaced => self.open_anew(),
        }
    }

    fn open_anew(&self) -> Result<Arc<StorageRoot>, Fault> {
        let _alone = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let held = Arc::clone(&self.opened().now);
        match held.name_target()? {
            NameTarget::Same => return Ok(held),
            NameTarget::Missing => return Err(held.gone()),
            NameTarget::Replaced => {}
        }
        let known = self
            .opened()
            .before
            .iter()
            .filter_map(Weak::upgrade)
            .collect::<Vec<_>>();
        let back = known
            .into_iter()
            .find(|root| matches!(root.name_target(), Ok(NameTarget::Same)));
        let found = match back {
            Some(root) => root,
            None => Arc::new(StorageRoot::open(&self.name, self.options.clone())?.opened_anew()),
        };
        let mut opened = self.opened();
        let old = std::mem::replace(&mut opened.now, Arc::clone(&found));
        opened.before.retain(|root| root.strong_count() > 0);
        opened.before.push(Arc::downgrade(&old));
        drop((opened, old, held));
        tracing::warn!(
            storage_root = %self.name.display(),
            "the storage root's name leads to another directory: it was mounted over, unmounted, moved or restored; the service reopens it, and checks tasks that worked in the old one before they end"
        );
        if let Some(welcome) = self.welcome.get() {
            welcome(&found);
        }
        Ok(found)
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
