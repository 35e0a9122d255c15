//! The text of `dom_md/metadata`: `KEY=value` lines, the last one a checksum over the others. Read as VDSM reads it: a
//! line without `=` says nothing, of a key that stands there twice the last value counts, and spaces around a value do
//! not.

use std::collections::BTreeMap;
use std::fmt::Write;

use common::id::DomainId;
use common::{Fault, FaultCode};
use sha1::{Digest, Sha1};

use crate::text::{self, shown, strip};

const CHECKSUM: &str = "_SHA_CKSUM";

/// The versions that can be read: those whose file domains are laid out alike.
const VERSIONS: std::ops::RangeInclusive<i64> = 3..=5;

/// The version of the domains that are made here.
const OUR_VERSION: u32 = 5;

/// The type of the domains that are made here, and the only one that may be written: the others are protected by
/// leases (sanlock) that this service does not take.
const OUR_TYPE: &str = "LOCALFS";

/// In `POOL_UUID`: no pool.
const NO_POOL: &str = "00000000-0000-0000-0000-000000000000";

/// What a domain's metadata says. All keys are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainMeta {
    values: BTreeMap<String, String>,
    /// The domain's id.
    pub id: DomainId,
    /// The version of its format.
    pub version: u32,
}

/// Why a text is not a domain's metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainMetaError {
    /// It may be whole, and is not read to its end.
    #[error("is too long: no more than {max} bytes are read", max = text::MAX_BYTES)]
    TooLong,
    /// It is no text.
    #[error("is no UTF-8: it is damaged")]
    NotUtf8,
    /// A key that must be there is not.
    #[error("lacks the key {0}")]
    Missing(&'static str),
    /// A value that cannot be.
    #[error("has {0}={1:?}, which cannot be")]
    Value(&'static str, String),
    /// The checksum is of another text.
    #[error("has the checksum {found}, and its lines give {expected}: it was changed by hand or damaged")]
    Checksum {
        /// What its lines give.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A version that is not read here.
    #[error("is of version {0}, and this build reads {first} to {last}", first = VERSIONS.start(), last = VERSIONS.end())]
    Version(i64),
}

/// What helps against damage.
const RESTORE: &str = "restore it from a backup";

impl DomainMetaError {
    /// The fault, naming the domain.
    pub fn fault(&self, domain: DomainId) -> Fault {
        let (code, advice) = match self {
            Self::Checksum { .. } => (FaultCode::DomainChecksumMismatch, RESTORE),
            Self::Version(version) if version < VERSIONS.start() => (
                FaultCode::DomainVersionUnsupported,
                "nothing is wrong with it: upgrade it with oVirt, or move its disks with oVirt to a domain of version 5",
            ),
            Self::Version(_) => (
                FaultCode::DomainVersionUnsupported,
                "nothing is wrong with it: a newer oVirt made it, and a newer build may read it",
            ),
            Self::TooLong => (
                FaultCode::DomainMetadataInvalid,
                "look what in it takes so much, and shorten it with oVirt, or restore it from a backup",
            ),
            Self::NotUtf8 | Self::Missing(_) | Self::Value(..) => (FaultCode::DomainMetadataInvalid, RESTORE),
        };
        Fault::new(
            code,
            format!("dom_md/metadata of domain {domain} {self}; {advice}"),
        )
        .about(domain)
    }
}

impl DomainMeta {
    /// Of a new domain of ours: in no pool, local, version 5, 512-byte blocks.
    pub fn new(id: DomainId, name: &str, remote_path: &str) -> Self {
        let values = [
            ("ALIGNMENT", "1048576"),
            ("BLOCK_SIZE", "512"),
            ("CLASS", "Data"),
            ("DESCRIPTION", name),
            ("IOOPTIMEOUTSEC", "10"),
            ("LEASERETRIES", "3"),
            ("LEASETIMESEC", "60"),
            ("LOCKPOLICY", ""),
            ("LOCKRENEWALINTERVALSEC", "5"),
            ("POOL_UUID", ""),
            ("REMOTE_PATH", remote_path),
            ("ROLE", "Regular"),
            ("SDUUID", &id.to_string()),
            ("TYPE", OUR_TYPE),
            ("VERSION", &OUR_VERSION.to_string()),
        ];
        Self {
            values: values.map(|(k, v)| (k.to_owned(), strip(v).to_owned())).into(),
            id,
            version: OUR_VERSION,
        }
    }

    /// Reads the text.
    ///
    /// # Errors
    /// [`DomainMetaError`].
    pub fn read(file: &[u8]) -> Result<Self, DomainMetaError> {
        if file.len() > text::MAX_BYTES {
            return Err(DomainMetaError::TooLong);
        }
        let mut values = BTreeMap::new();
        for line in text::lines(file) {
            let line = std::str::from_utf8(line).map_err(|_| DomainMetaError::NotUtf8)?;
            if let Some((key, value)) = line.split_once('=') {
                values.insert(key.to_owned(), strip(value).to_owned());
            }
        }
        let declared = values.remove(CHECKSUM);
        check(declared, &values, file)?;
        let value = |key| values.get(key).ok_or(DomainMetaError::Missing(key));
        let (version, id) = (value("VERSION")?, value("SDUUID")?);
        for key in ["TYPE", "CLASS", "ROLE"] {
            value(key)?;
        }
        let number = text::whole_number(version).ok_or_else(|| bad("VERSION", version))?;
        let supported = u32::try_from(number)
            .ok()
            .filter(|v| VERSIONS.contains(&i64::from(*v)));
        Ok(Self {
            id: id.to_ascii_lowercase().parse().map_err(|_| bad("SDUUID", id))?,
            version: supported.ok_or(DomainMetaError::Version(number))?,
            values,
        })
    }

    /// A value by its key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// The name that people gave it.
    pub fn name(&self) -> &str {
        self.get("DESCRIPTION").unwrap_or_default()
    }

    /// The pools that it belongs to; none for a domain of ours.
    pub fn pools(&self) -> Vec<String> {
        let pools = self.get("POOL_UUID").unwrap_or_default().split(',');
        pools
            .map(str::trim)
            .filter(|p| !p.is_empty() && *p != NO_POOL)
            .map(str::to_owned)
            .collect()
    }

    /// Why it may only be read here; none for a domain of ours.
    pub fn read_only_reason(&self) -> Option<String> {
        let pools = self.pools();
        let kind = self.get("TYPE").unwrap_or_default();
        if !pools.is_empty() {
            Some(format!("it belongs to the oVirt pool {}", pools.join(", ")))
        } else if kind != OUR_TYPE {
            Some(format!(
                "it is of type {kind}, whose leases this service does not take"
            ))
        } else if self.version != OUR_VERSION {
            Some(format!(
                "it is of version {}; only version {OUR_VERSION} is written",
                self.version
            ))
        } else if self.get("CLASS") != Some("Data") {
            Some("it is not of class Data".to_owned())
        } else {
            None
        }
    }

    /// The text, with its checksum.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.values {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{key}={value}");
        }
        let _ = writeln!(text, "{CHECKSUM}={}", checksum(&self.values));
        text
    }
}

fn bad(key: &'static str, value: &str) -> DomainMetaError {
    DomainMetaError::Value(key, shown(value))
}

/// Whether the checksum that stands there is that of the text. A text without one is taken as it is, as by VDSM.
fn check(
    declared: Option<String>,
    values: &BTreeMap<String, String>,
    file: &[u8],
) -> Result<(), DomainMetaError> {
    let expected = checksum(values);
    match declared {
        Some(found) if found != expected && found != earlier_checksum(file) => {
            Err(DomainMetaError::Checksum {
                expected,
                found: shown(&found),
            })
        }
        _ => Ok(()),
    }
}

/// SHA-1 over the lines, sorted by their keys, joined without line ends, as VDSM computes it: in ASCII, each other
/// character as its number, as XML has it.
fn checksum(values: &BTreeMap<String, String>) -> String {
    let mut ascii = String::new();
    for (key, value) in values {
        for c in key.chars().chain(['=']).chain(value.chars()) {
            if c.is_ascii() {
                ascii.push(c);
            } else {
                // Writing into a String cannot fail.
                let _ = write!(ascii, "&#{};", u32::from(c));
            }
        }
    }
    hex(Sha1::digest(ascii))
}

/// The checksum that earlier builds wrote: over the lines as they stand there. It is another one only where a name
/// or a path is not ASCII.
fn earlier_checksum(file: &[u8]) -> String {
    let mut sum = Sha1::new();
    for line in text::lines(file).filter(|l| !l.starts_with(format!("{CHECKSUM}=").as_bytes())) {
        sum.update(line);
    }
    hex(sum.finalize())
}

fn hex(sum: impl AsRef<[u8]>) -> String {
    sum.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn ours() -> DomainMeta {
        DomainMeta::new(DomainId::from_uuid(Uuid::from_u128(7)), "größe=1", "/srv/a")
    }

    /// One of a domain that a very large pool, or a hand, wrote.
    #[test]
    fn what_is_too_long_is_said_to_be_and_not_to_lack_what_is_there() {
        let mut long = ours();
        let pools = vec![Uuid::from_u128(7).to_string(); 5_000].join(",");
        long.values.insert("POOL_UUID".to_owned(), pools);
        let error = read(&long.encode()).unwrap_err();
        assert_eq!(error, DomainMetaError::TooLong);
        let fault = error.fault(long.id);
        assert!(fault.message.contains("no more than 65536 bytes"), "{fault}");
    }

    fn read(text: &str) -> Result<DomainMeta, DomainMetaError> {
        DomainMeta::read(text.as_bytes())
    }

    /// [`ours`] without its checksum.
    fn bare() -> String {
        let text = ours().encode();
        let lines = text.lines().filter(|l| !l.starts_with('_'));
        lines.map(|l| format!("{l}\n")).collect()
    }

    fn sealed(text: &str, sum: &str) -> String {
        format!("{text}{CHECKSUM}={sum}\n")
    }

    #[test]
    fn metadata_reads_back_as_it_was_written() {
        let meta = ours();
        assert_eq!(read(&meta.encode()), Ok(meta.clone()));
        assert_eq!(meta.read_only_reason(), None);
        assert_eq!(meta.name(), "größe=1");
        let spaced = DomainMeta::new(meta.id, " a\u{a0}", "/srv/a ");
        assert_eq!(spaced.name(), "a");
        assert_eq!(read(&spaced.encode()), Ok(spaced));
    }

    /// Computed with `hashlib` from what VDSM hashes.
    #[test]
    fn the_checksum_is_vdsms() {
        let text = ours().encode();
        assert!(
            text.ends_with("_SHA_CKSUM=790bdde54b85aaf426a68eb96ce4c11796a00b37\n"),
            "{text}"
        );
    }

    #[test]
    fn the_checksum_that_earlier_builds_wrote_is_still_known() {
        let text = sealed(&bare(), &earlier_checksum(bare().as_bytes()));
        assert_ne!(text, ours().encode());
        assert_eq!(read(&text), Ok(ours()));
        assert!(read(&text.replace("größe", "grösse")).is_err());
    }

    #[test]
    fn a_changed_line_is_noticed_and_a_missing_checksum_is_not() {
        let text = ours().encode();
        assert!(matches!(
            read(&text.replace("POOL_UUID=", "POOL_UUID=x")),
            Err(DomainMetaError::Checksum { .. })
        ));
        assert_eq!(read(&bare()), Ok(ours()));
        let pooled = read(&bare().replace("POOL_UUID=", "POOL_UUID=x")).unwrap();
        assert!(pooled.read_only_reason().unwrap().contains("pool x"));
    }

    #[test]
    fn what_vdsm_reads_past_is_read_past() {
        let text = ours().encode();
        let backwards: String = text.lines().rev().map(|l| format!("{l}\n")).collect();
        for same in [
            format!("{text}\0\0\0"),
            text.replace('\n', "\r\n"),
            backwards,
            format!("junk\n\n{text}"),
            format!("ROLE=Master\n{text}"),
            text.replace("ROLE=Regular", "ROLE=  Regular "),
        ] {
            assert_eq!(read(&same), Ok(ours()), "{same:?}");
        }
    }

    #[test]
    fn a_pool_of_zeros_is_none() {
        let zeros = read(&bare().replace("POOL_UUID=", &format!("POOL_UUID={NO_POOL}"))).unwrap();
        assert_eq!(zeros.pools(), Vec::<String>::new());
        assert_eq!(zeros.read_only_reason(), None);
    }

    #[test]
    fn other_types_and_versions_are_not_written_and_the_advice_is_right() {
        let nfs = read(&bare().replace("LOCALFS", "NFS")).unwrap();
        assert!(nfs.read_only_reason().unwrap().contains("NFS"));
        let old = read(&bare().replace("VERSION=5", "VERSION=4")).unwrap();
        assert!(old.read_only_reason().is_some());
        for (version, advice) in [(2, "upgrade it"), (6, "a newer build"), (-1, "upgrade it")] {
            let refused = read(&bare().replace("VERSION=5", &format!("VERSION={version}"))).unwrap_err();
            assert_eq!(refused, DomainMetaError::Version(version));
            let fault = refused.fault(ours().id);
            assert_eq!(fault.code, FaultCode::DomainVersionUnsupported);
            assert!(fault.message.contains(advice), "{}", fault.message);
            assert!(!fault.message.contains("backup"), "{}", fault.message);
        }
        let junk = read(&bare().replace("VERSION=5", "VERSION=five"));
        assert_eq!(junk, Err(DomainMetaError::Value("VERSION", "five".into())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, text in "(?s).{0,400}") {
            let _ = DomainMeta::read(&bytes);
            let _ = read(&text);
        }

        #[test]
        fn cut_at_any_byte_it_is_an_error_or_the_same_domain(at in 0usize..320) {
            let text = ours().encode();
            if let Ok(read) = DomainMeta::read(&text.as_bytes()[..at.min(text.len())]) {
                prop_assert_eq!(read.id, ours().id);
            }
        }
    }
}
