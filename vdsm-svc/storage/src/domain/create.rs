//! Creating a domain: it is built under a temporary name, synced, and renamed when it is complete.

use common::id::DomainId;
use common::{Fault, FaultCode};

use super::{Domain, DomainInfo, DomainMeta};
use crate::file::{Dir, FileError};
use crate::names;
use crate::root::StorageRoot;
use crate::text::{cut, strip};

/// The number of characters of a domain's name that its metadata keeps (VDSM).
const NAME_CHARS: usize = 50;

/// The files of `dom_md` beside the metadata, with their sizes in bytes. The mailboxes are holes.
const FILES: [(&str, u64); 4] = [
    ("ids", 0),
    ("leases", 0),
    ("inbox", 16 << 20),
    ("outbox", 16 << 20),
];

impl StorageRoot {
    /// Creates a storage domain. Repeating this for a domain that exists with the same properties changes nothing.
    ///
    /// The caller holds the domain's lock exclusively.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for the name, `DOMAIN_EXISTS` if another domain has this id, `STORAGE_REPLACED` and
    /// `STORAGE_ROOT_GONE` if the root's name leads elsewhere, and those of the file system. After an error, nothing
    /// has the domain's name.
    pub fn create_domain(&self, id: DomainId, name: &str) -> Result<DomainInfo, Fault> {
        common::text::name(name).map_err(|e| Fault::invalid("name", e))?;
        // The engine's name may be longer; the part on storage is for people who look only at the domain.
        let kept = cut(strip(name), NAME_CHARS, usize::MAX);
        let meta = DomainMeta::new(id, kept, &self.path().to_string_lossy());
        if self.dir().kind(id.to_string())?.is_some() {
            return self.existing(id, &meta);
        }
        let aside = names::new_domain(id, self.host_id());
        discard(self.dir(), &aside)?;
        build(self.dir(), &aside, &meta)?;
        self.check_name()?;
        // The point of no return: before it there is no domain, after it there is a complete one.
        match self.dir().rename_new(&aside, id.to_string()) {
            Err(e) if e.is_taken() => {
                discard(self.dir(), &aside)?;
                return self.existing(id, &meta);
            }
            done => done?,
        }
        self.dir().sync()?;
        self.check_name()?;
        self.domain(id)?.info()
    }

    fn existing(&self, id: DomainId, wanted: &DomainMeta) -> Result<DomainInfo, Fault> {
        let found = Domain::open(self.dir(), id)?;
        let same = found.meta.read_only_reason().is_none() && found.meta.name() == wanted.name();
        if same {
            // The first attempt may have been interrupted before its sync.
            self.dir().sync()?;
            return found.info();
        }
        Err(Fault::new(
            FaultCode::DomainExists,
            format!(
                "domain {id} exists already, with the name {:?}; choose another id",
                found.meta.name()
            ),
        )
        .about(id))
    }
}

fn build(root: &Dir, aside: &str, meta: &DomainMeta) -> Result<(), FileError> {
    let domain = root.create_dir(aside)?;
    let dom_md = domain.create_dir(names::DOM_MD)?;
    let images = domain.create_dir(names::IMAGES)?;
    for (name, bytes) in FILES {
        let file = dom_md.create_file(name)?;
        dom_md.set_len(name, &file, bytes)?;
        dom_md.sync_file(name, &file)?;
    }
    let file = dom_md.create_file(names::METADATA)?;
    dom_md.write(names::METADATA, &file, meta.encode().as_bytes())?;
    dom_md.sync_file(names::METADATA, &file)?;
    dom_md.sync()?;
    images.sync()?;
    domain.sync()
}

/// Removes the remains of an earlier attempt.
fn discard(root: &Dir, aside: &str) -> Result<(), FileError> {
    if let Some(dir) = root.dir(aside)? {
        dir.purge()?;
    }
    root.remove_dir(aside)
}
