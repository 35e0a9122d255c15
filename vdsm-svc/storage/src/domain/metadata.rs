//! The text of `dom_md/metadata`: `KEY=value` lines, the last one a checksum over the others. Read as VDSM reads it:
//! a line without `=` is ignored, the last value of a key counts, and spaces around a value do not.

use std::collections::BTreeMap;
use std::fmt::Write;

use common::id::DomainId;
use common::{Fault, FaultCode};
use sha1::{Digest, Sha1};

use crate::text::{self, shown, strip};

const CHECKSUM: &str = "_SHA_CKSUM";

/// The versions that can be read: their file domains have the same layout.
const VERSIONS: std::ops::RangeInclusive<i64> = 3..=5;

/// The version of domains that are created here.
const OUR_VERSION: u32 = 5;

/// The type of domains that are created here, and the only one that is writable: the others are protected by leases
/// (sanlock), which this service does not take.
const OUR_TYPE: &str = "LOCALFS";

/// In `POOL_UUID`: no pool.
const NO_POOL: &str = "00000000-0000-0000-0000-000000000000";

/// The metadata of a domain. All keys are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainMeta {
    values: BTreeMap<String, String>,
    /// The domain's id.
    pub id: DomainId,
    /// The version of its format.
    pub version: u32,
}

/// Why a text is not the metadata of a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainMetaError {
    /// It is longer than the maximum, and was not read to its end.
    #[error("is too long: at most {max} bytes are read", max = text::MAX_BYTES)]
    TooLong,
    /// It is not UTF-8.
    #[error("is not UTF-8: it is damaged")]
    NotUtf8,
    /// A required key is missing.
    #[error("lacks the key {0}")]
    Missing(&'static str),
    /// A value is invalid.
    #[error("has the impossible value {0}={1:?}")]
    Value(&'static str, String),
    /// The checksum does not match the text.
    #[error("has the checksum {found}, but its content has {expected}: it was changed by hand or damaged")]
    Checksum {
        /// The checksum of the lines.
        expected: String,
        /// The value that was found.
        found: String,
    },
    /// A version that this build cannot read.
    #[error("has version {0}, but this build reads versions {first} to {last}", first = VERSIONS.start(), last = VERSIONS.end())]
    Version(i64),
}

/// The advice for damaged metadata.
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
                "nothing is wrong with it: a newer oVirt made it, and a newer build of this service may read it",
            ),
            Self::TooLong => (
                FaultCode::DomainMetadataInvalid,
                "find out which entry is so long and shorten it with oVirt, or restore it from a backup",
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
    /// The metadata of a new domain: in no pool, local, version 5, 512-byte blocks.
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

    /// The pools that it belongs to; empty for a domain that was created here.
    pub fn pools(&self) -> Vec<String> {
        let pools = self.get("POOL_UUID").unwrap_or_default().split(',');
        pools
            .map(str::trim)
            .filter(|p| !p.is_empty() && *p != NO_POOL)
            .map(str::to_owned)
            .collect()
    }

    /// Why it is read-only here; none for a domain that was created here.
    pub fn read_only_reason(&self) -> Option<String> {
        let pools = self.pools();
        let kind = self.get("TYPE").unwrap_or_default();
        if !pools.is_empty() {
            Some(format!("it belongs to the oVirt pool {}", pools.join(", ")))
        } else if kind != OUR_TYPE {
            Some(format!(
                "it has the type {kind}, and this service does not take the leases of that type"
            ))
        } else if self.version != OUR_VERSION {
            Some(format!(
                "it has version {}; only version {OUR_VERSION} can be written",
                self.version
            ))
        } else if self.get("CLASS") != Some("Data") {
            Some("its class is not Data".to_owned())
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

/// Whether the checksum in the text matches. A text without one is accepted, as by VDSM.
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

/// SHA-1 over the lines, sorted by key and joined without line ends, as VDSM computes it: in ASCII, with other
/// characters as XML character references.
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

/// The checksum that earlier builds wrote: over the lines in their order. It differs only if a name or a path is not
/// ASCII.
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
        assert!(fault.message.contains("at most 65536 bytes"), "{fault}");
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
