//! Formatting a domain: it is renamed as a whole, then purged.

use common::id::DomainId;
use common::{Fault, FaultCode};

use super::Domain;
use crate::file::{Dir, Kind};
use crate::root::StorageRoot;
use crate::{in_use, names};

impl StorageRoot {
    /// Removes a domain with everything in it. A missing domain is an error, so that a wrong id is noticed.
    ///
    /// The caller holds the domain's lock exclusively.
    ///
    /// # Errors
    /// `DOMAIN_NOT_FOUND`, `DOMAIN_READ_ONLY`, `DOMAIN_LOCKED`; `DOMAIN_NOT_EMPTY` if it has images (or leftovers of
    /// them) and `force` is not set; `IMAGE_IN_USE`; `STORAGE_REPLACED` and `STORAGE_ROOT_GONE` if the root's name
    /// leads elsewhere; those of the file system. What could not be purged is purged when the root is opened next.
    pub fn format_domain(&self, id: DomainId, force: bool) -> Result<(), Fault> {
        let domain = self.writable(id)?;
        check_empty(&domain, force)?;
        let aside = free_name(self.dir(), id)?;
        self.check_name()?;
        // The point of no return.
        self.dir().rename_new(id.to_string(), &aside)?;
        self.dir().sync()?;
        self.forget_writer(id);
        purge(self.dir(), &aside)?;
        self.check_name()
    }
}

fn check_empty(domain: &Domain, force: bool) -> Result<(), Fault> {
    let held = domain.images.entries()?;
    if !held.is_empty() && !force {
        return Err(Fault::new(
            FaultCode::DomainNotEmpty,
            format!(
                "domain {} has {} images or leftovers; delete them first, or use force",
                domain.id,
                held.len()
            ),
        )
        .about(domain.id));
    }
    for entry in held.iter().filter(|e| e.kind == Kind::Dir) {
        if let Some(image) = domain.images.dir(&entry.name)? {
            in_use::check_all(&image, &|| Ok(()))?;
        }
    }
    Ok(())
}

fn free_name(root: &Dir, id: DomainId) -> Result<String, Fault> {
    for name in names::purged_domain(id) {
        if root.kind(&name)?.is_none() {
            return Ok(name);
        }
    }
    Err(Fault::new(FaultCode::Internal, "no name is free"))
}

/// Purges domains that were renamed and not purged. What cannot be purged is left for the next time.
///
/// # Errors
/// Of the file system, in listing.
pub(crate) fn purge_leftovers(root: &Dir) -> Result<(), Fault> {
    for entry in root.entries()? {
        if entry.name.to_str().is_some_and(names::is_purged_domain) {
            // A domain that cannot be purged now, for example on read-only storage, must not prevent the service from
            // starting.
            let _ = purge(root, &entry.name.to_string_lossy());
        }
    }
    Ok(())
}

fn purge(root: &Dir, name: &str) -> Result<(), Fault> {
    if let Some(dir) = root.dir(name)? {
        dir.purge()?;
    }
    root.remove_dir(name)?;
    root.sync()?;
    Ok(())
}
