//! What a certificate says, as far as it matters here.

use common::text::steers;
use common::time::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Characters of a name that are kept: as many as a value in the metadata may have.
const NAME_CHARS: usize = 255;

/// Certificates that a file may hold. Each handshake looks through the CAs.
const MOST_CERTIFICATES: usize = 100;

/// Names of a certificate that are read.
const NAMES: usize = 100;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name; empty where it has none.
    pub common_name: String,
    /// Names that are URIs: `engine:UUID`, `host:UUID`, `user:NAME`, `role:NAME` are ours.
    pub uris: Vec<String>,
    /// DNS names and addresses, in words.
    pub names: Vec<String>,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// It may be shown by a server.
    pub for_servers: bool,
    /// It may be shown by a client.
    pub for_clients: bool,
    /// When it begins to be valid.
    pub not_before: Timestamp,
    /// When it ends to be valid.
    pub not_after: Timestamp,
    /// The same, for people.
    pub until: String,
    /// Its number at its CA.
    pub serial: String,
    /// Its public key, as it stands there.
    pub key: Vec<u8>,
}

impl Certificate {
    /// Reads one.
    ///
    /// # Errors
    /// In words, beginning with a verb: what is wrong with it.
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        let unreadable = |error: &dyn std::fmt::Display| format!("holds what is no certificate: {error}");
        let (_, read) = X509Certificate::from_der(der).map_err(|error| unreadable(&error))?;
        let common_name = match read.subject().iter_common_name().next() {
            Some(name) => text(name.as_str().map_err(|error| unreadable(&error))?)?,
            None => String::new(),
        };
        let mut found = Self {
            common_name,
            uris: Vec::new(),
            names: Vec::new(),
            is_ca: read.is_ca(),
            for_servers: true,
            for_clients: true,
            not_before: seconds(read.validity().not_before.timestamp()),
            not_after: seconds(read.validity().not_after.timestamp()),
            until: read.validity().not_after.to_string(),
            serial: read.raw_serial_as_string(),
            key: read.public_key().subject_public_key.data.to_vec(),
        };
        let names = read
            .subject_alternative_name()
            .map_err(|error| unreadable(&error))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            if found.uris.len() + found.names.len() >= NAMES {
                return Err(format!("holds a certificate with more than {NAMES} names"));
            }
            match name {
                GeneralName::URI(uri) => found.uris.push(text(uri)?),
                GeneralName::DNSName(name) => found.names.push(text(name)?),
                GeneralName::IPAddress(bytes) => found.names.extend(address(bytes)),
                _ => {}
            }
        }
        let usage = read.extended_key_usage().map_err(|error| unreadable(&error))?;
        if let Some(usage) = usage {
            (found.for_servers, found.for_clients) = (usage.value.server_auth, usage.value.client_auth);
        }
        Ok(found)
    }

    /// All of a file in PEM, at least one.
    ///
    /// # Errors
    /// In words, beginning with a verb: what is wrong with it.
    pub fn all_of(pem: &[u8]) -> Result<Vec<Self>, String> {
        certificates(pem)?.iter().map(Self::of).collect()
    }

    /// The first of its names that is of this kind; none where it has none.
    ///
    /// # Errors
    /// In words, where it has two: which of them counts, others might see differently.
    pub(super) fn uri(&self, kind: &str) -> Result<Option<&str>, String> {
        let mut named = self.uris.iter().filter_map(|uri| uri.strip_prefix(kind));
        match (named.next(), named.next()) {
            (Some(first), Some(second)) => Err(format!("names both {kind}{first} and {kind}{second}")),
            (first, _) => Ok(first),
        }
    }

    /// Whom it names, for people.
    pub fn name(&self) -> String {
        let own = self.uris.iter().chain(&self.names).cloned();
        let mut all: Vec<String> = own.take(SHOWN).collect();
        if all.is_empty() {
            all.push(format!("CN={}", self.common_name));
        }
        all.join(", ")
    }
}

/// The certificates of a file in PEM, at least one.
///
/// # Errors
/// In words, beginning with a verb.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem).take(MOST_CERTIFICATES + 1);
    let found: Vec<_> = found
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is no PEM: {error}"))?;
    match found.len() {
        0 => Err("holds no certificate in PEM".to_owned()),
        count if count > MOST_CERTIFICATES => {
            Err(format!("holds more than {MOST_CERTIFICATES} certificates"))
        }
        _ => Ok(found),
    }
}

/// Names that are shown of one.
const SHOWN: usize = 4;

fn text(text: &str) -> Result<String, String> {
    if text.chars().any(steers) || text.chars().count() > NAME_CHARS {
        return Err(format!(
            "holds a certificate with a name that has control characters, or more than {NAME_CHARS}"
        ));
    }
    Ok(text.to_owned())
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp(seconds.saturating_mul(1_000_000))
}
