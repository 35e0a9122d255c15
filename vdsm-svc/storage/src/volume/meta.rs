//! The text of a volume's `.meta`: sorted `KEY=value` lines, then `EOF`, at most 512 bytes. oVirt's format of
//! domain version 5; the older `SIZE` in blocks is read too.
//!
//! What VDSM reads is read here, and what it calls invalid is invalid here. A word that is none of its own is more:
//! VDSM shows it and then cannot work with it, or (a LEGALITY) takes it for a permission; here it is refused.

use std::fmt::Write;
use std::ops::Range;
use std::str::FromStr;

use common::id::{DomainId, ImageId, VolumeId};
use common::{Allocation, Fault, FaultCode, VolumeFormat};

use super::keys::Keys;
use crate::text::{self, cut, shown, strip};

/// All of it must fit one block.
const LIMIT_BYTES: usize = 512;

/// Characters of a description that are kept (VDSM).
const DESCRIPTION_CHARS: usize = 210;

/// Generations are 0 to 999, then 0 again (VDSM).
const GENERATIONS: Range<i64> = 0..1000;

/// Bytes of a block, in which `SIZE` counts.
const BLOCK_BYTES: i64 = 512;

/// What [`VolumeMeta::parent`] looks like where there is none.
const NO_PARENT: &str = "00000000-0000-0000-0000-000000000000";

/// Whether a volume may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Legality {
    /// The volume is whole, and may be used.
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
    /// The size that a guest sees, in bytes. Not above 0 only where a resize was cut off, or by hand: VDSM shows such
    /// a volume and does not copy it.
    pub capacity_bytes: i64,
    /// When it was made, in seconds since the epoch.
    pub created_s: i64,
    /// For people.
    pub description: String,
    /// The use of the disk, such as `DATA`: any text, as for VDSM.
    pub disk_type: String,
    /// The domain it lies in.
    pub domain: DomainId,
    /// How data is kept.
    pub format: VolumeFormat,
    /// How often an operation took effect on it, modulo 1000; something else only by hand.
    pub generation: i64,
    /// The image it belongs to; a template's own, also where it is read through a link.
    pub image: ImageId,
    /// Whether it may be used.
    pub legality: Legality,
    /// What it stands on.
    pub parent: Option<VolumeId>,
    /// Its place in the order of snapshots.
    pub sequence: i64,
    /// How space is taken.
    pub allocation: Allocation,
    /// Its place in the chain.
    pub role: Role,
}

/// Why a text is not a volume's metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// No key at all: what a power cut leaves where no sync was done.
    #[error("is empty")]
    Empty,
    /// VDSM's mark of a volume that was half deleted.
    #[error("is cleared (it has the key NONE): the volume was partly deleted")]
    Cleared,
    /// VDSM's has 512 bytes.
    #[error("is too long: it may have {LIMIT_BYTES} bytes, and at most {max} are read", max = text::MAX_BYTES)]
    TooLong,
    /// A line that is no UTF-8.
    #[error("has a line that is not UTF-8: {0:?}")]
    NotUtf8(String),
    /// A required key is missing.
    #[error("lacks the key {0}")]
    Missing(&'static str),
    /// A value is invalid.
    #[error("has the impossible value {key}={value:?}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value that was found.
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
                "the metadata of volume {volume} {self}; delete the image, or correct the file {volume}.meta"
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
    /// The generation after this one.
    pub(crate) const fn generation_after(generation: i64) -> i64 {
        (generation.rem_euclid(GENERATIONS.end) + 1) % GENERATIONS.end
    }

    /// The text, its description without spaces around it, and cut on a character boundary so that all fits.
    ///
    /// # Errors
    /// [`MetaError::Value`] for control characters, which could forge a line; [`MetaError::TooLarge`].
    pub fn encode(&self) -> Result<String, MetaError> {
        let texts = [("DESCRIPTION", &self.description), ("DISKTYPE", &self.disk_type)];
        // What turns the direction of writing forges none, and may stand on storage: a copy keeps what its source has.
        let forges = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
        if let Some((key, value)) = texts.into_iter().find(|(_, value)| value.chars().any(forges)) {
            let value = shown(value);
            return Err(MetaError::Value { key, value });
        }
        let bare = self.lines("").len();
        let room = LIMIT_BYTES.checked_sub(bare).ok_or(MetaError::TooLarge(bare))?;
        // A cut may end behind a space, which nobody would read.
        let description = strip(cut(strip(&self.description), DESCRIPTION_CHARS, room));
        Ok(self.lines(description))
    }

    /// Reads the text, and what looks wrong in it although it can be read, in words.
    ///
    /// # Errors
    /// [`MetaError`].
    pub fn read(file: &[u8]) -> Result<(Self, Vec<String>), MetaError> {
        if file.len() > text::MAX_BYTES {
            return Err(MetaError::TooLong);
        }
        let keys = Keys::read(file)?;
        let meta = Self::of(&keys)?;
        let mut remarks: Vec<_> = (keys.ambiguous.iter())
            .map(|key| {
                format!(
                    "the metadata has the key {} twice; the last one is used",
                    shown(key)
                )
            })
            .collect();
        remarks.extend(meta.remarks());
        Ok((meta, remarks))
    }

    fn of(keys: &Keys<'_>) -> Result<Self, MetaError> {
        let capacity_bytes = match keys.optional_number("CAP")? {
            Some(bytes) => bytes,
            None => {
                let blocks = keys.optional_number("SIZE")?.ok_or(MetaError::Missing("CAP"))?;
                blocks.checked_mul(BLOCK_BYTES).ok_or_else(|| keys.bad("SIZE"))?
            }
        };
        Ok(Self {
            capacity_bytes,
            created_s: keys.number("CTIME")?,
            description: cut(keys.text("DESCRIPTION")?, DESCRIPTION_CHARS, usize::MAX).to_owned(),
            disk_type: keys.text("DISKTYPE")?.to_owned(),
            domain: keys.id("DOMAIN")?,
            format: keys.one_of("FORMAT", format_of)?,
            generation: keys.optional_number("GEN")?.unwrap_or(0),
            image: keys.id("IMAGE")?,
            legality: keys.one_of("LEGALITY", legality_of)?,
            parent: match keys.text("PUUID")? {
                NO_PARENT | "" => None,
                _ => Some(keys.id("PUUID")?),
            },
            sequence: keys.optional_number("SEQ")?.unwrap_or(0),
            allocation: keys.one_of("TYPE", allocation_of)?,
            role: keys.one_of("VOLTYPE", role_of)?,
        })
    }

    fn remarks(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.capacity_bytes <= 0 {
            found.push(format!(
                "the metadata has CAP={}: a resize was interrupted, or it was changed by hand",
                self.capacity_bytes
            ));
        }
        if !GENERATIONS.contains(&self.generation) {
            found.push(format!(
                "the metadata has GEN={}, but generations are 0 to 999",
                self.generation
            ));
        }
        if self.sequence < 0 {
            found.push(format!(
                "the metadata has SEQ={}, but sequences count from 0",
                self.sequence
            ));
        }
        found
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

impl FromStr for VolumeMeta {
    type Err = MetaError;

    fn from_str(text: &str) -> Result<Self, MetaError> {
        Self::read(text.as_bytes()).map(|(meta, _)| meta)
    }
}

/// In any case, as for VDSM; those of LEGALITY and VOLTYPE count as they are written.
fn format_of(text: &str) -> Option<VolumeFormat> {
    [VolumeFormat::Raw, VolumeFormat::Cow]
        .into_iter()
        .find(|v| format_text(*v).eq_ignore_ascii_case(text))
}

fn allocation_of(text: &str) -> Option<Allocation> {
    [Allocation::Sparse, Allocation::Preallocated]
        .into_iter()
        .find(|v| allocation_text(*v).eq_ignore_ascii_case(text))
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
            parent: Some(VolumeId::from_uuid(Uuid::from_u128(3))),
            sequence: 7,
            allocation: Allocation::Preallocated,
            role: Role::Internal,
        }
    }

    /// The lines of [`sample`] without those of some keys.
    fn without(keys: &[&str]) -> String {
        let full = sample("d").encode().unwrap();
        full.lines()
            .filter(|l| !keys.iter().any(|k| l.starts_with(&format!("{k}="))))
            .map(|l| format!("{l}\n"))
            .collect()
    }

    #[test]
    fn what_may_be_left_out_has_vdsms_defaults_and_the_rest_is_missed() {
        let meta: VolumeMeta = without(&["GEN", "SEQ"]).parse().unwrap();
        assert_eq!((meta.generation, meta.sequence), (0, 0));
        for key in [
            "CAP",
            "CTIME",
            "DESCRIPTION",
            "DISKTYPE",
            "DOMAIN",
            "FORMAT",
            "IMAGE",
            "LEGALITY",
            "PUUID",
            "TYPE",
            "VOLTYPE",
        ] {
            assert_eq!(
                without(&[key]).parse::<VolumeMeta>(),
                Err(MetaError::Missing(key))
            );
        }
        let blocks = without(&["CAP"]).replace("EOF", "SIZE=2048\nMTIME=0\nEOF");
        assert_eq!(blocks.parse::<VolumeMeta>().unwrap().capacity_bytes, 1 << 20);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let full = sample("d").encode().unwrap();
        assert_eq!("".parse::<VolumeMeta>(), Err(MetaError::Empty));
        assert_eq!("EOF\nCAP=1\n".parse::<VolumeMeta>(), Err(MetaError::Empty));
        assert_eq!("NONE=xxx\nEOF\n".parse::<VolumeMeta>(), Err(MetaError::Cleared));
        for (key, from, to) in [
            ("VOLTYPE", "VOLTYPE=INTERNAL", "VOLTYPE=TOP"),
            ("LEGALITY", "LEGALITY=ILLEGAL", "LEGALITY=maybe"),
            ("FORMAT", "FORMAT=COW", "FORMAT=QCOW2"),
            ("TYPE", "\nTYPE=PREALLOCATED", "\nTYPE=THIN"),
            ("GEN", "GEN=999", "GEN=x"),
        ] {
            let read = full.replace(from, to).parse::<VolumeMeta>();
            assert!(
                matches!(&read, Err(MetaError::Value { key: k, .. }) if *k == key),
                "{read:?}"
            );
        }
        let broken = full.replace("DESCRIPTION=d", "DESCRIPTION=\u{e4}").into_bytes();
        let broken: Vec<u8> = broken.into_iter().filter(|b| *b != 0xa4).collect();
        assert!(matches!(VolumeMeta::read(&broken), Err(MetaError::NotUtf8(_))));
    }

    #[test]
    fn what_looks_wrong_and_can_be_read_is_remarked() {
        let full = sample("d").encode().unwrap();
        let remarks = |from, to| VolumeMeta::read(full.replace(from, to).as_bytes()).unwrap().1;
        assert!(remarks("", "").is_empty());
        for (from, to) in [
            ("GEN=999", "GEN=1000"),
            ("GEN=999", "GEN=-1"),
            ("CAP=8796093022208", "CAP=-1"),
            ("SEQ=7", "SEQ=-1"),
            ("SEQ=7", "SEQ=7\nSEQ=8"),
        ] {
            assert_eq!(remarks(from, to).len(), 1, "{to}");
        }
        assert!(remarks("SEQ=7", "SEQ=7\nSEQ=7").is_empty());
    }

    #[test]
    fn a_message_about_a_long_value_is_short() {
        let full = sample("d").encode().unwrap();
        let long = full.replace("FORMAT=COW", &format!("FORMAT={}", "x".repeat(60_000)));
        let fault = long.parse::<VolumeMeta>().unwrap_err().to_string();
        assert!(fault.len() < 200, "{fault}");
    }

    #[test]
    fn a_description_cannot_forge_a_line() {
        for text in ["a\nLEGALITY=LEGAL", "a\rb", "a\0b", "a\u{85}b", "a\u{2028}b"] {
            assert!(sample(text).encode().is_err(), "{text:?}");
            let forged = VolumeMeta {
                disk_type: text.to_owned(),
                ..sample("d")
            };
            assert!(forged.encode().is_err(), "{text:?}");
        }
    }

    #[test]
    fn spaces_around_a_description_are_not_kept() {
        let read = |text: &str| {
            sample(text)
                .encode()
                .unwrap()
                .parse::<VolumeMeta>()
                .unwrap()
                .description
        };
        assert_eq!(read(" \u{a0}a b\u{3000} "), "a b");
        // The 210th character is a space.
        let long = format!("{} {}", "a".repeat(209), "b".repeat(50));
        assert_eq!(read(&long), "a".repeat(209));
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

    #[test]
    fn what_is_too_long_is_said_to_be_and_not_to_lack_what_is_there() {
        let text = format!("DESCRIPTION={}\nCAP=4096\n", "x".repeat(1 << 20));
        let error = VolumeMeta::read(text.as_bytes()).unwrap_err();
        assert_eq!(error, MetaError::TooLong);
    }

    proptest! {
        #[test]
        fn metadata_reads_back_as_it_was_written(description in "[^\\p{Cc}\u{2028}\u{2029}]{0,250}", capacity in 1i64..) {
            let meta = VolumeMeta { capacity_bytes: capacity, ..sample(&description) };
            let text = meta.encode().unwrap();
            prop_assert!(text.len() <= LIMIT_BYTES);
            let back: VolumeMeta = text.parse().unwrap();
            prop_assert!(strip(&description).starts_with(&back.description));
            prop_assert_eq!(VolumeMeta { description, ..back }, meta);
        }

        /// A power cut or a bad disk may leave any beginning of the text: that is an error, or all of it, the `EOF`
        /// left aside, because what comes last before it must be there and be a word that is known.
        #[test]
        fn cut_at_any_byte_it_is_an_error_or_whole(description in "[a-zA-Zäß€ =]{0,60}") {
            let meta = sample(strip(&description));
            let text = meta.encode().unwrap();
            for at in 0..text.len() {
                let cut = String::from_utf8_lossy(&text.as_bytes()[..at]).into_owned();
                if let Ok(read) = cut.parse::<VolumeMeta>() {
                    prop_assert_eq!(&read, &meta, "cut at {}", at);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, text in "(?s).{0,600}") {
            let _ = VolumeMeta::read(&bytes);
            let _ = text.parse::<VolumeMeta>();
        }
    }
}
