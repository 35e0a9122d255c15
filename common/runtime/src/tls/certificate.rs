//! The contents of a certificate, as far as they matter here.

use common::text::steers;
use common::time::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The maximum number of a name's characters that are kept: as many as a value in the metadata may have.
const NAME_CHARS: usize = 255;

/// The maximum number of certificates in a file. Each handshake looks through the CAs.
const MOST_CERTIFICATES: usize = 100;

/// The maximum number of a certificate's names that are read.
const NAMES: usize = 100;

/// The contents of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name; empty if there is none.
    pub common_name: String,
    /// Names that are URIs; `engine:UUID`, `host:UUID`, `user:NAME` and `role:NAME` are ours.
    pub uris: Vec<String>,
    /// DNS names and addresses, as text.
    pub names: Vec<String>,
    /// Whether the certificate may sign others.
    pub is_ca: bool,
    /// Whether a server may show the certificate.
    pub for_servers: bool,
    /// Whether a client may show the certificate.
    pub for_clients: bool,
    /// The beginning of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// The end of its validity, for people.
    pub until: String,
    /// Its serial number at its CA.
    pub serial: String,
    /// Its public key, as encoded in the certificate.
    pub key: Vec<u8>,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// Words that begin with a verb and say what is wrong with it.
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        let unreadable = |error: &dyn std::fmt::Display| format!("does not hold a certificate: {error}");
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

    /// Reads all certificates of a PEM file, at least one.
    ///
    /// # Errors
    /// Words that begin with a verb and say what is wrong with the file.
    pub fn all_of(pem: &[u8]) -> Result<Vec<Self>, String> {
        certificates(pem)?.iter().map(Self::of).collect()
    }

    /// The certificate's name of this kind, without its prefix; none if there is no such name.
    ///
    /// # Errors
    /// Words, if there are two such names: another reader might take the other one.
    pub(super) fn uri(&self, kind: &str) -> Result<Option<&str>, String> {
        let mut named = self.uris.iter().filter_map(|uri| uri.strip_prefix(kind));
        match (named.next(), named.next()) {
            (Some(first), Some(second)) => Err(format!("names both {kind}{first} and {kind}{second}")),
            (first, _) => Ok(first),
        }
    }

    /// The name of the certificate, for people.
    pub fn name(&self) -> String {
        let own = self.uris.iter().chain(&self.names).cloned();
        let mut all: Vec<String> = own.take(SHOWN).collect();
        if all.is_empty() {
            all.push(format!("CN={}", self.common_name));
        }
        all.join(", ")
    }
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// Words that begin with a verb.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem).take(MOST_CERTIFICATES + 1);
    let found: Vec<_> = found
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not PEM: {error}"))?;
    match found.len() {
        0 => Err("holds no certificate in PEM".to_owned()),
        count if count > MOST_CERTIFICATES => {
            Err(format!("holds more than {MOST_CERTIFICATES} certificates"))
        }
        _ => Ok(found),
    }
}

/// The maximum number of a certificate's names that are shown.
const SHOWN: usize = 4;

fn text(text: &str) -> Result<String, String> {
    if text.chars().any(steers) || text.chars().count() > NAME_CHARS {
        return Err(format!(
            "holds a certificate with a name that has control characters, or more than {NAME_CHARS} characters"
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
