//! The text of `dom_md/metadata`: `KEY=value` lines, the last one a checksum over the others.

use std::fmt::Write;
use std::str::FromStr;

use common::id::DomainId;
use common::{Fault, FaultCode};
use sha1::{Digest, Sha1};

const CHECKSUM: &str = "_SHA_CKSUM";

/// The versions that can be read: those whose file domains are laid out alike.
const VERSIONS: std::ops::RangeInclusive<u32> = 3..=5;

/// The version of the domains that are made here.
const OUR_VERSION: u32 = 5;

/// The type of the domains that are made here, and the only one that may be written: the others are protected by
/// leases (sanlock) that this service does not take.
const OUR_TYPE: &str = "LOCALFS";

/// What a domain's metadata says. All lines are kept, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainMeta {
    lines: Vec<(String, String)>,
    /// The domain's id.
    pub id: DomainId,
    /// The version of its format.
    pub version: u32,
}

/// Why a text is not a domain's metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainMetaError {
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
    #[error("is of version {0}; this build reads 3 to 5")]
    Version(String),
}

impl DomainMetaError {
    /// The fault, naming the domain.
    pub fn fault(&self, domain: DomainId) -> Fault {
        let code = match self {
            Self::Checksum { .. } => FaultCode::DomainChecksumMismatch,
            Self::Version(_) => FaultCode::DomainVersionUnsupported,
            _ => FaultCode::DomainMetadataInvalid,
        };
        Fault::new(
            code,
            format!("dom_md/metadata of domain {domain} {self}; restore it from a backup"),
        )
        .about(domain)
    }
}

impl DomainMeta {
    /// Of a new domain of ours: in no pool, local, version 5, 512-byte blocks.
    pub fn new(id: DomainId, name: &str, remote_path: &str) -> Self {
        let lines = [
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
            lines: lines.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            id,
            version: OUR_VERSION,
        }
    }

    /// A value by its key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.lines.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
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
            .filter(|p| !p.is_empty())
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
        for (key, value) in &self.lines {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{key}={value}");
        }
        let _ = writeln!(text, "{CHECKSUM}={}", checksum(text.lines()));
        text
    }

    fn required(&self, key: &'static str) -> Result<&str, DomainMetaError> {
        self.get(key).ok_or(DomainMetaError::Missing(key))
    }
}

/// SHA-1 over the lines joined without line ends, as oVirt computes it.
fn checksum<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut sum = Sha1::new();
    for line in lines {
        sum.update(line.as_bytes());
    }
    sum.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

impl FromStr for DomainMeta {
    type Err = DomainMetaError;

    fn from_str(text: &str) -> Result<Self, DomainMetaError> {
        let is_sum = |line: &&str| line.split_once('=').is_some_and(|(k, _)| k == CHECKSUM);
        let found = text
            .lines()
            .find(is_sum)
            .and_then(|l| l.split_once('='))
            .map(|(_, v)| v);
        let expected = checksum(text.lines().filter(|l| !is_sum(l)));
        if let Some(found) = found.filter(|f| *f != expected) {
            return Err(DomainMetaError::Checksum {
                expected,
                found: found.to_owned(),
            });
        }
        let mut lines: Vec<(String, String)> = Vec::new();
        for line in text.lines().filter(|l| !is_sum(l) && !l.trim().is_empty()) {
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| DomainMetaError::Line(line.to_owned()))?;
            if lines.iter().any(|(k, _)| k == key) {
                return Err(DomainMetaError::Twice(key.to_owned()));
            }
            lines.push((key.to_owned(), value.to_owned()));
        }
        let mut meta = Self {
            lines,
            // Replaced below by what the text says.
            id: DomainId::from_uuid(uuid::Uuid::nil()),
            version: OUR_VERSION,
        };
        let version = meta.required("VERSION")?;
        meta.version = version
            .parse()
            .ok()
            .filter(|v| VERSIONS.contains(v))
            .ok_or_else(|| DomainMetaError::Version(version.to_owned()))?;
        let id = meta.required("SDUUID")?;
        meta.id = id
            .parse()
            .map_err(|_| DomainMetaError::Value("SDUUID", id.to_owned()))?;
        for key in ["TYPE", "CLASS", "ROLE"] {
            meta.required(key)?;
        }
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn ours() -> DomainMeta {
        DomainMeta::new(DomainId::from_uuid(Uuid::from_u128(7)), "größe=1", "/srv/a")
    }

    #[test]
    fn metadata_reads_back_as_it_was_written() {
        let meta = ours();
        assert_eq!(meta.encode().parse(), Ok(meta.clone()));
        assert_eq!(meta.read_only_reason(), None);
        assert_eq!(meta.name(), "größe=1");
    }

    #[test]
    fn a_changed_line_is_noticed_and_a_missing_checksum_is_not() {
        let text = ours().encode();
        assert!(matches!(
            text.replace("POOL_UUID=", "POOL_UUID=x").parse::<DomainMeta>(),
            Err(DomainMetaError::Checksum { .. })
        ));
        let bare: String = text
            .lines()
            .filter(|l| !l.starts_with('_'))
            .map(|l| format!("{l}\n"))
            .collect();
        assert_eq!(bare.parse(), Ok(ours()));
        let pooled: DomainMeta = bare.replace("POOL_UUID=", "POOL_UUID=x").parse().unwrap();
        assert!(pooled.read_only_reason().unwrap().contains("pool x"));
    }

    #[test]
    fn other_types_and_versions_are_not_written() {
        let bare: String = ours()
            .encode()
            .lines()
            .filter(|l| !l.starts_with('_'))
            .map(|l| format!("{l}\n"))
            .collect();
        let nfs: DomainMeta = bare.replace("LOCALFS", "NFS").parse().unwrap();
        assert!(nfs.read_only_reason().unwrap().contains("NFS"));
        let old: DomainMeta = bare.replace("VERSION=5", "VERSION=4").parse().unwrap();
        assert!(old.read_only_reason().is_some());
        assert_eq!(
            bare.replace("VERSION=5", "VERSION=2").parse::<DomainMeta>(),
            Err(DomainMetaError::Version("2".into()))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(?s).{0,400}") {
            let _ = text.parse::<DomainMeta>();
        }

        #[test]
        fn cut_at_any_byte_it_is_an_error_or_the_same_domain(at in 0usize..320) {
            let text = ours().encode();
            let cut = String::from_utf8_lossy(&text.as_bytes()[..at.min(text.len())]).into_owned();
            if let Ok(read) = cut.parse::<DomainMeta>() {
                prop_assert_eq!(read.id, ours().id);
            }
        }
    }
}
