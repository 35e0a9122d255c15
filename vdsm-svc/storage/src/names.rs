//! The names on storage: oVirt's, and a few of our own.

use std::ffi::OsStr;
use std::str::FromStr;

use common::id::{DomainId, HostId, ImageId, TaskId, VolumeId};

/// Where a domain keeps its own metadata.
pub(crate) const DOM_MD: &str = "dom_md";

/// Where a domain keeps its images.
pub(crate) const IMAGES: &str = "images";

/// The domain's metadata, in [`DOM_MD`].
pub(crate) const METADATA: &str = "metadata";

/// The file in [`DOM_MD`] that the writer of the domain locks. oVirt ignores it.
pub(crate) const WRITER: &str = ".vdsm-svc-writer";

/// Where earlier builds kept the run directories of tasks in the storage root. It is no longer read.
pub(crate) const RUN: &str = ".vdsm-run";

/// oVirt's prefix of an image that is being deleted. VDSM purges such directories when it opens a domain.
pub(crate) const REMOVE_ME: &str = "_remove_me_";

const META: &str = ".meta";
const META_NEW: &str = ".meta.new";
const LEASE: &str = ".lease";
const TASK_FILE: &str = ".vdsm-svc-";
const NEW_DOMAIN: &str = ".vdsm-new-";
const PURGED_DOMAIN: &str = ".vdsm-purge-";

/// The possible spellings of an image's or a volume's name: lower case or capitals. VDSM uses an id as the name
/// without changing its case, and some tools send capitals.
pub(crate) fn spellings(id: impl ToString) -> [String; 2] {
    let id = id.to_string();
    let capitals = id.to_ascii_uppercase();
    [id, capitals]
}

/// The id in one of its [`spellings`].
fn spelled<T: FromStr>(text: &str) -> Option<T> {
    let in_capitals = !text.bytes().any(|b| b.is_ascii_lowercase());
    if in_capitals {
        text.to_ascii_lowercase().parse().ok()
    } else {
        text.parse().ok()
    }
}

/// The image that a directory belongs to, by its name.
pub(crate) fn image(name: &str) -> Option<ImageId> {
    spelled(name)
}

/// A file in an image's directory, identified by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageFile {
    /// A volume's data.
    Data(VolumeId),
    /// Its metadata.
    Meta(VolumeId),
    /// Metadata before it is renamed into place.
    MetaNew(VolumeId),
    /// oVirt's lease for it.
    Lease(VolumeId),
    /// The data of a staged volume, before it is renamed into place.
    OfTask(TaskId),
}

impl ImageFile {
    /// The file that a name stands for; none if it is neither ours nor oVirt's.
    pub(crate) fn parse(name: &OsStr) -> Option<Self> {
        let name = name.to_str()?;
        if let Some(task) = name.strip_prefix(TASK_FILE) {
            return task.parse().ok().map(Self::OfTask);
        }
        let (id, kind): (&str, fn(VolumeId) -> Self) = if let Some(id) = name.strip_suffix(META_NEW) {
            (id, Self::MetaNew)
        } else if let Some(id) = name.strip_suffix(META) {
            (id, Self::Meta)
        } else if let Some(id) = name.strip_suffix(LEASE) {
            (id, Self::Lease)
        } else {
            (name, Self::Data)
        };
        spelled(id).map(kind)
    }

    /// The volume that it belongs to, if the name tells.
    pub(crate) const fn volume(self) -> Option<VolumeId> {
        match self {
            Self::Data(id) | Self::Meta(id) | Self::MetaNew(id) | Self::Lease(id) => Some(id),
            Self::OfTask(_) => None,
        }
    }
}

/// The metadata file of a volume whose data has this name.
pub(crate) fn meta_of(data: &str) -> String {
    format!("{data}{META}")
}

/// A volume's metadata file.
pub(crate) fn meta(volume: VolumeId) -> String {
    format!("{volume}{META}")
}

/// The same, before it is renamed into place.
pub(crate) fn meta_new(volume: VolumeId) -> String {
    format!("{volume}{META_NEW}")
}

/// The file of a staged volume: it has the task's name until it is renamed into place.
pub(crate) fn task_file(task: TaskId) -> String {
    format!("{TASK_FILE}{task}")
}

/// Whether a name is [`task_file`], or was derived from it by a program of the task.
pub(crate) fn is_of_task(name: &OsStr, task: TaskId) -> bool {
    let rest = name.to_str().and_then(|name| name.strip_prefix(TASK_FILE));
    let rest = rest.and_then(|rest| rest.strip_prefix(&task.to_string()));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The names that an image to be deleted may be renamed to, in the order in which they are tried.
pub(crate) fn set_aside(image: ImageId) -> impl Iterator<Item = String> {
    (1u32..).map(move |n| match n {
        1 => format!("{REMOVE_ME}{image}"),
        n => format!("{REMOVE_ME}{image}_{n}"),
    })
}

/// The image that a name of [`set_aside`] stands for.
pub(crate) fn set_aside_image(name: &str) -> Option<ImageId> {
    let rest = name.strip_prefix(REMOVE_ME)?;
    let (id, number) = rest.split_once('_').unwrap_or((rest, "2"));
    number.parse::<u32>().ok()?;
    spelled(id)
}

/// The name of a domain that this host is building: another host on the same root may build it too, and takes a file
/// with its own name for the remains of an earlier attempt.
pub(crate) fn new_domain(domain: DomainId, host: HostId) -> String {
    format!("{NEW_DOMAIN}{domain}.{host}")
}

/// The names that a formatted domain is renamed to for the purge, in the order in which they are tried.
pub(crate) fn purged_domain(domain: DomainId) -> impl Iterator<Item = String> {
    (1u32..).map(move |n| format!("{PURGED_DOMAIN}{domain}.{n}"))
}

/// Whether a name is one of [`purged_domain`].
pub(crate) fn is_purged_domain(name: &str) -> bool {
    name.strip_prefix(PURGED_DOMAIN)
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(id, n)| id.parse::<DomainId>().is_ok() && n.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn only_known_names_are_known() {
        let volume: VolumeId = ID.parse().unwrap();
        for (name, file) in [
            (ID.to_owned(), Some(ImageFile::Data(volume))),
            (format!("{ID}.meta"), Some(ImageFile::Meta(volume))),
            (format!("{ID}.meta.new"), Some(ImageFile::MetaNew(volume))),
            (format!("{ID}.lease"), Some(ImageFile::Lease(volume))),
            (ID.to_uppercase(), Some(ImageFile::Data(volume))),
            (
                format!("{}.meta", ID.to_uppercase()),
                Some(ImageFile::Meta(volume)),
            ),
            (format!("{ID}.bak"), None),
            ("lost+found".to_owned(), None),
            (
                format!(".vdsm-svc-{ID}"),
                Some(ImageFile::OfTask(ID.parse().unwrap())),
            ),
        ] {
            assert_eq!(ImageFile::parse(name.as_ref()), file, "{name}");
        }
    }

    #[test]
    fn an_id_is_known_in_its_two_spellings_and_no_third() {
        let image: ImageId = ID.parse().unwrap();
        for name in spellings(image) {
            assert_eq!(super::image(&name), Some(image), "{name}");
        }
        assert_eq!(super::image(&ID.replace('b', "B")), None);
    }

    #[test]
    fn a_name_set_aside_tells_the_image() {
        let image: ImageId = ID.parse().unwrap();
        for name in set_aside(image).take(3) {
            assert_eq!(set_aside_image(&name), Some(image), "{name}");
        }
        let capitals = format!("{REMOVE_ME}{}", ID.to_uppercase());
        assert_eq!(set_aside_image(&capitals), Some(image));
        assert_eq!(set_aside_image(&format!("{REMOVE_ME}{ID}_x")), None);
        assert_eq!(set_aside_image(ID), None);
    }
}
