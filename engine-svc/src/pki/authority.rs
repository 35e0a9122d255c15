//! The CA, and the certificates that it signs.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use common::id::{EngineId, HostId};
use proto::access::Role;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use runtime::clock;
use runtime::tls::Certificate;
use time::{Duration, OffsetDateTime};

use super::{Owner, PkiError, file, files, random};

/// The CA's certificate in its directory.
const CERT: &str = "ca.crt";

/// The CA's key.
pub(super) const KEY: &str = "ca.key";

/// A certificate is valid from this long before it is made, because clocks differ.
const BEFORE: Duration = Duration::hours(1);

/// The names and the purpose of a certificate.
pub(super) struct Bearer {
    common_name: String,
    uris: Vec<String>,
    names: Vec<String>,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

impl Bearer {
    /// The engine serves clients and calls hosts.
    pub(super) fn engine(id: EngineId, names: &[String]) -> Self {
        Self {
            common_name: format!("engine {id}"),
            uris: vec![format!("engine:{id}")],
            names: names.to_vec(),
            usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        }
    }

    /// A host is called, and calls nobody.
    pub(super) fn host(id: HostId, names: &[String]) -> Self {
        Self {
            common_name: format!("host {id}"),
            uris: vec![format!("host:{id}")],
            names: names.to_vec(),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        }
    }

    /// A user calls.
    pub(super) fn user(name: &str, role: Role) -> Self {
        Self {
            common_name: name.to_owned(),
            uris: vec![format!("user:{name}"), format!("role:{role}")],
            names: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut params = named(&self.common_name);
        for uri in &self.uris {
            let uri = Ia5String::try_from(uri.as_str())?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        for name in &self.names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(Ia5String::try_from(name.as_str())?),
            });
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&self.usages);
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// A certificate with its key, in PEM.
pub(super) struct Issued {
    pub(super) cert: String,
    pub(super) key: String,
    pub(super) ca: String,
}

/// A CA, which signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
    until: OffsetDateTime,
}

impl Authority {
    /// Makes a new CA in a directory that has none.
    pub(super) fn make(dir: &Path, days: u32, owner: Option<Owner>) -> Result<(), PkiError> {
        files::make_dir(dir)?;
        for name in [CERT, KEY] {
            let path = dir.join(name);
            if path.symlink_metadata().is_ok() {
                return Err(PkiError::CaExists(path));
            }
        }
        // Two CAs, one after the other, have different names.
        let id = random().simple().to_string();
        let mut params = named(&format!("vdsm-engine CA {}", &id[..8]));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = now()?;
        params.not_before = now - BEFORE;
        params.not_after = now + Duration::days(days.into());
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?;
        files::create(&dir.join(KEY), &key.serialize_pem(), 0o600, owner)?;
        files::create(&dir.join(CERT), &cert.pem(), 0o644, owner)?;
        files::sync(dir)?;
        files::give(dir, owner)
    }

    /// Opens the CA of a directory.
    pub(super) fn open(dir: &Path) -> Result<Self, PkiError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path)
                .map(|text| (path.clone(), text))
                .map_err(file(&path))
        };
        let ((cert_path, cert), (key_path, key)) = (read(CERT)?, read(KEY)?);
        let wrong = |path: &PathBuf, what: String| PkiError::Content {
            path: path.clone(),
            what,
        };
        let found = Certificate::all_of(cert.as_bytes()).map_err(|what| wrong(&cert_path, what))?;
        let [own] = found.as_slice() else {
            let what = format!("holds {} certificates; expected the CA's", found.len());
            return Err(wrong(&cert_path, what));
        };
        if !own.is_ca {
            return Err(wrong(&cert_path, "is not the certificate of a CA".to_owned()));
        }
        let key = KeyPair::from_pem(&key)
            .map_err(|error| wrong(&key_path, format!("holds no usable key: {error}")))?;
        if own.key != key.public_key_raw() {
            let what = format!("is the key of another certificate than {}", cert_path.display());
            return Err(wrong(&key_path, what));
        }
        let until = at(own.not_after.as_micros() / 1_000_000)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(&cert, key)?,
            cert,
            until,
        })
    }

    /// A certificate with a key of its own.
    pub(super) fn issue(&self, bearer: &Bearer, days: u32) -> Result<Issued, PkiError> {
        let mut params = bearer.params()?;
        let now = now()?;
        params.not_before = now - BEFORE;
        params.not_after = (now + Duration::days(days.into())).min(self.until);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            cert: cert.pem(),
            key: key.serialize_pem(),
            ca: self.cert.clone(),
        })
    }
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn now() -> Result<OffsetDateTime, PkiError> {
    at(clock::now().as_micros() / 1_000_000)
}

fn at(seconds: i64) -> Result<OffsetDateTime, PkiError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| PkiError::Make(rcgen::Error::Time))
}
