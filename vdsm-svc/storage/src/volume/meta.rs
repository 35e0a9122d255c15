//! The text of a volume's `.meta`: sorted `KEY=value` lines, then `EOF`, at most 512 bytes. oVirt's format of
//! domain version 5; the older `SIZE` in blocks is read too.

use std::fmt::Write;
use std::str::FromStr;

use common::id::{DomainId, ImageId, VolumeId};
use common::{Allocation, Fault, FaultCode, VolumeFormat};

use super::keys::Keys;

/// All of it must fit one block.
const LIMIT_BYTES: usize = 512;

/// Characters of a description that are kept (VDSM).
const DESCRIPTION_CHARS: usize = 210;

/// Generations are 0 to 999, then 0 again (VDSM).
const GENERATIONS: u32 = 1000;

/// What [`VolumeMeta::parent`] looks like where there is none.
const NO_PARENT: &str = "00000000-0000-0000-0000-000000000000";

/// The uses of a disk that VDSM knows.
const DISK_TYPES: &[&str] = &[
    "DATA", "ISOF", "MEMD", "MEMM", "OVFS", "HEVD", "HESD", "HEMD", "HECI", "SCRD", "1", "2",
];

/// Whether a volume may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Legality {
    /// Whole.
    Legal,
    /// Being written, merged or deleted, or left so.
    Illegal,
    /// A placeholder for a template on a backup domain.
    Fake,
}

/// A volume's place in its chain (VDSM: `VOLTYPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A template, hard-linked into the images that stand on it.
    Shared,
    /// Other volumes of the image stand on it.
    Internal,
    /// The top of its image.
    Leaf,
}

/// What a `.meta` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMeta {
    /// What a guest sees, in bytes.
    pub capacity_bytes: u64,
    /// When it was made, in seconds since the epoch.
    pub created_s: i64,
    /// For people.
    pub description: String,
    /// The use of the disk, such as `DATA`.
    pub disk_type: String,
    /// The domain it lies in.
    pub domain: DomainId,
    /// How data is kept.
    pub format: VolumeFormat,
    /// How often an operation took effect on it, modulo 1000.
    pub generation: u32,
    /// The image it belongs to; a template's own, also where it is read through a link.
    pub image: ImageId,
    /// Whether it may be used.
    pub legality: Legality,
    /// Always 0 in version 5.
    pub modified_s: i64,
    /// What it stands on.
    pub parent: Option<VolumeId>,
    /// Its place in the order of snapshots.
    pub sequence: u64,
    /// How space is taken.
    pub allocation: Allocation,
    /// Its place in the chain.
    pub role: Role,
}

/// Why a text is not a volume's metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// Nothing, or only line ends: what a power cut leaves where no sync was done.
    #[error("is empty")]
    Empty,
    /// VDSM's mark of a volume that was half deleted.
    #[error("is cleared (it holds the key NONE): the volume was half deleted")]
    Cleared,
    /// The closing line is missing.
    #[error("has no EOF line: it was cut short")]
    Cut,
    /// A line that is no `KEY=value`.
    #[error("has a line that is no KEY=value: {0:?}")]
    Line(String),
    /// A key stands twice.
    #[error("has the key {0} twice")]
    Twice(String),
    /// A key that must be there is not.
    #[error("lacks the key {0}")]
    Missing(&'static str),
    /// A value that cannot be.
    #[error("has {key}={value:?}, which cannot be")]
    Value {
        /// The key.
        key: &'static str,
        /// What stands there.
        value: String,
    },
    /// It would not fit one block even without a description.
    #[error("would have {0} bytes; at most {LIMIT_BYTES} fit")]
    TooLarge(usize),
}

impl MetaError {
    /// The fault, naming the volume.
    pub fn fault(&self, volume: VolumeId) -> Fault {
        let code = match self {
            Self::TooLarge(_) => FaultCode::VolumeMetadataTooLarge,
            _ => FaultCode::VolumeMetadataInvalid,
        };
        Fault::new(
            code,
            format!(
                "the metadata of volume {volume} {self}; delete the image, or mend the file {volume}.meta"
            ),
        )
        .about(volume)
    }
}

impl Legality {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Legal => "LEGAL",
            Self::Illegal => "ILLEGAL",
            Self::Fake => "FAKE",
        }
    }
}

impl Role {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "SHARED",
            Self::Internal => "INTERNAL",
            Self::Leaf => "LEAF",
        }
    }
}

/// A format as VDSM writes it.
pub const fn format_text(format: VolumeFormat) -> &'static str {
    match format {
        VolumeFormat::Raw => "RAW",
        VolumeFormat::Cow => "COW",
    }
}

/// An allocation as VDSM writes it.
pub const fn allocation_text(allocation: Allocation) -> &'static str {
    match allocation {
        Allocation::Sparse => "SPARSE",
        Allocation::Preallocated => "PREALLOCATED",
    }
}

/// A parent as VDSM writes it; all zeros for none.
pub fn parent_text(parent: Option<VolumeId>) -> String {
    parent.map_or_else(|| NO_PARENT.to_owned(), |p| p.to_string())
}

impl VolumeMeta {
    /// The text, its description cut on a character boundary so that all fits.
    ///
    /// # Errors
    /// [`MetaError::Value`] for control characters, which could forge a line; [`MetaError::TooLarge`].
    pub fn encode(&self) -> Result<String, MetaError> {
        common::text::description(&self.description).map_err(|_| MetaError::Value {
            key: "DESCRIPTION",
            value: self.description.clone(),
        })?;
        let bare = self.lines("").len();
        let room = LIMIT_BYTES.checked_sub(bare).ok_or(MetaError::TooLarge(bare))?;
        Ok(self.lines(cut(&self.description, room)))
    }

    fn lines(&self, description: &str) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{key}={value}");
        };
        line("CAP", &self.capacity_bytes);
        line("CTIME", &self.created_s);
        line("DESCRIPTION", &description);
        line("DISKTYPE", &self.disk_type);
        line("DOMAIN", &self.domain);
        line("FORMAT", &format_text(self.format));
        line("GEN", &self.generation);
        line("IMAGE", &self.image);
        line("LEGALITY", &self.legality.as_str());
        line("PUUID", &parent_text(self.parent));
        line("SEQ", &self.sequence);
        line("TYPE", &allocation_text(self.allocation));
        line("VOLTYPE", &self.role.as_str());
        text.push_str("EOF\n");
        text
    }
}

/// The longest beginning of a description that VDSM's limit of characters and the room in bytes allow.
fn cut(description: &str, room: usize) -> &str {
    let by_chars = description
        .char_indices()
        .nth(DESCRIPTION_CHARS)
        .map_or(description.len(), |(at, _)| at);
    &description[..description.floor_char_boundary(by_chars.min(room))]
}

impl FromStr for VolumeMeta {
    type Err = MetaError;

    fn from_str(text: &str) -> Result<Self, MetaError> {
        let keys = Keys::read(text)?;
        let capacity_bytes = match keys.optional::<u64>("CAP")? {
            Some(bytes) => bytes,
            None => keys
                .required::<u64>("SIZE")
                .map_err(|e| {
                    if e == MetaError::Missing("SIZE") {
                        MetaError::Missing("CAP")
                    } else {
                        e
                    }
                })?
                .checked_mul(512)
                .ok_or_else(|| keys.bad("SIZE"))?,
        };
        Ok(Self {
            capacity_bytes,
            created_s: keys.required("CTIME")?,
            description: keys.text("DESCRIPTION").unwrap_or_default().to_owned(),
            disk_type: keys.one_of("DISKTYPE", |t| DISK_TYPES.contains(&t).then(|| t.to_owned()))?,
            domain: keys.required("DOMAIN")?,
            format: keys.one_of("FORMAT", format_of)?,
            generation: keys.optional::<u32>("GEN")?.map_or(Ok(0), |g| {
                if g < GENERATIONS {
                    Ok(g)
                } else {
                    Err(keys.bad("GEN"))
                }
            })?,
            image: keys.required("IMAGE")?,
            legality: match keys.text("LEGALITY") {
                None => Legality::Legal,
                Some(_) => keys.one_of("LEGALITY", legality_of)?,
            },
            modified_s: keys.optional("MTIME")?.unwrap_or(0),
            parent: keys.one_of("PUUID", |t| match t {
                NO_PARENT => Some(None),
                id => id.parse().ok().map(Some),
            })?,
            sequence: keys.optional("SEQ")?.unwrap_or(0),
            allocation: keys.one_of("TYPE", allocation_of)?,
            role: keys.one_of("VOLTYPE", role_of)?,
        })
    }
}

fn format_of(text: &str) -> Option<VolumeFormat> {
    [VolumeFormat::Raw, VolumeFormat::Cow]
        .into_iter()
        .find(|v| format_text(*v) == text)
}

fn allocation_of(text: &str) -> Option<Allocation> {
    [Allocation::Sparse, Allocation::Preallocated]
        .into_iter()
        .find(|v| allocation_text(*v) == text)
}

fn legality_of(text: &str) -> Option<Legality> {
    [Legality::Legal, Legality::Illegal, Legality::Fake]
        .into_iter()
        .find(|v| v.as_str() == text)
}

fn role_of(text: &str) -> Option<Role> {
    [Role::Shared, Role::Internal, Role::Leaf]
        .into_iter()
        .find(|v| v.as_str() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn sample(description: &str) -> VolumeMeta {
        VolumeMeta {
            capacity_bytes: 8 << 40,
            created_s: 1_795_487_297,
            description: description.to_owned(),
            disk_type: "DATA".to_owned(),
            domain: DomainId::from_uuid(Uuid::from_u128(1)),
            format: VolumeFormat::Cow,
            generation: 999,
            image: ImageId::from_uuid(Uuid::from_u128(2)),
            legality: Legality::Illegal,
            modified_s: 0,
            parent: Some(VolumeId::from_uuid(Uuid::from_u128(3))),
            sequence: 7,
            allocation: Allocation::Preallocated,
            role: Role::Internal,
        }
    }

    #[test]
    fn what_may_be_left_out_has_vdsms_defaults() {
        let full = sample("d").encode().unwrap();
        let without = |keys: &[&str]| {
            full.lines()
                .filter(|l| !keys.iter().any(|k| l.starts_with(&format!("{k}="))))
                .map(|l| format!("{l}\n"))
                .collect::<String>()
        };
        let meta: VolumeMeta = without(&["GEN", "SEQ", "LEGALITY", "DESCRIPTION"])
            .parse()
            .unwrap();
        assert_eq!(
            (meta.generation, meta.sequence, meta.legality),
            (0, 0, Legality::Legal)
        );
        assert_eq!(
            without(&["FORMAT"]).parse::<VolumeMeta>(),
            Err(MetaError::Missing("FORMAT"))
        );
        assert_eq!(
            without(&["CAP"]).parse::<VolumeMeta>(),
            Err(MetaError::Missing("CAP"))
        );
        let blocks = without(&["CAP"]).replace("EOF", "SIZE=2048\nMTIME=0\nEOF");
        assert_eq!(blocks.parse::<VolumeMeta>().unwrap().capacity_bytes, 1 << 20);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let full = sample("d").encode().unwrap();
        assert_eq!("".parse::<VolumeMeta>(), Err(MetaError::Empty));
        assert_eq!("NONE=xxx\nEOF\n".parse::<VolumeMeta>(), Err(MetaError::Cleared));
        assert!(matches!(
            full.replace("GEN=999", "GEN=1000").parse::<VolumeMeta>(),
            Err(MetaError::Value { key: "GEN", .. })
        ));
        assert!(matches!(
            full.replace("VOLTYPE=INTERNAL", "VOLTYPE=TOP")
                .parse::<VolumeMeta>(),
            Err(MetaError::Value { key: "VOLTYPE", .. })
        ));
        assert_eq!(
            full.replace("SEQ=7", "SEQ=7\nSEQ=8").parse::<VolumeMeta>(),
            Err(MetaError::Twice("SEQ".into()))
        );
    }

    #[test]
    fn a_description_cannot_forge_a_line() {
        assert!(sample("a\nLEGALITY=LEGAL").encode().is_err());
    }

    #[test]
    fn a_long_description_is_cut_on_a_character() {
        let text = sample(&"ö".repeat(300)).encode().unwrap();
        assert!(
            text.len() <= LIMIT_BYTES && text.len() > LIMIT_BYTES - 2,
            "{}",
            text.len()
        );
        let ascii: VolumeMeta = sample(&"a".repeat(300)).encode().unwrap().parse().unwrap();
        assert!(ascii.description.len() <= DESCRIPTION_CHARS);
    }

    proptest! {
        #[test]
        fn metadata_reads_back_as_it_was_written(description in "[^\\p{Cc}\u{2028}\u{2029}]{0,250}", capacity: u64) {
            let meta = VolumeMeta { capacity_bytes: capacity, ..sample(&description) };
            let text = meta.encode().unwrap();
            prop_assert!(text.len() <= LIMIT_BYTES);
            let back: VolumeMeta = text.parse().unwrap();
            prop_assert!(description.starts_with(&back.description));
            prop_assert_eq!(VolumeMeta { description, ..back }, meta);
        }

        /// A power cut or a bad disk may leave any beginning of the text: that is an error, or all of it.
        #[test]
        fn cut_at_any_byte_it_is_an_error_or_whole(description in "[a-zA-Zäß€ =]{0,60}") {
            let meta = sample(&description);
            let text = meta.encode().unwrap();
            for at in 0..text.len() {
                let cut = String::from_utf8_lossy(&text.as_bytes()[..at]).into_owned();
                if let Ok(read) = cut.parse::<VolumeMeta>() {
                    prop_assert_eq!(&read, &meta, "cut at {}", at);
                }
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "(?s).{0,600}") {
            let _ = text.parse::<VolumeMeta>();
        }
    }
}
