//! The three files of a TLS configuration: reading and checking them.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;

use super::certificate::{Certificate, certificates};
use super::{TlsError, provider};

/// The maximum bytes of a file: enough for some hundred certificates.
const MOST_BYTES: u64 = 1 << 20;

/// The bits of a mode that let others read a file.
const OTHERS: u32 = 0o077;

/// A file and the flag that names it.
type Named = (&'static str, PathBuf);

/// The paths of certificate, key and CAs.
#[derive(Debug, Clone)]
pub struct Files {
    pub(super) cert: Named,
    pub(super) key: Named,
    pub(super) ca: Named,
}

/// The contents of the files.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bytes {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

/// The parsed contents.
#[derive(Debug, Clone)]
pub(super) struct Material {
    pub(super) own: Arc<CertifiedKey>,
    pub(super) roots: Arc<RootCertStore>,
    /// All certificates, each with the flag of its file; the own one comes first.
    pub(super) certificates: Vec<(&'static str, Certificate)>,
}

impl Files {
    /// All three files, or none.
    ///
    /// # Errors
    /// [`TlsError::Incomplete`].
    pub(super) fn of(named: [(&'static str, Option<PathBuf>); 3]) -> Result<Option<Self>, TlsError> {
        let flags = |is_given: bool| {
            let flags = named.iter().filter(|(_, path)| path.is_some() == is_given);
            flags.map(|(flag, _)| *flag).collect::<Vec<_>>().join(" and ")
        };
        let (given, missing) = (flags(true), flags(false));
        let all = named.each_ref().map(|(flag, _)| *flag).join(", ");
        match named {
            [(_, None), (_, None), (_, None)] => Ok(None),
            [(cert, Some(a)), (key, Some(b)), (ca, Some(c))] => Ok(Some(Self {
                cert: (cert, a),
                key: (key, b),
                ca: (ca, c),
            })),
            _ => Err(TlsError::Incomplete { given, missing, all }),
        }
    }

    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// [`TlsError::Read`]; [`TlsError::Content`] if a file is too large.
    pub(super) fn read(&self) -> Result<Bytes, TlsError> {
        Ok(Bytes {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
            ca: read(&self.ca)?,
        })
    }

    /// Parses the contents and checks that they fit together.
    ///
    /// # Errors
    /// [`TlsError::Content`], [`TlsError::Pair`].
    pub(super) fn understand(&self, bytes: &Bytes) -> Result<Material, TlsError> {
        let chain = certificates(&bytes.cert).map_err(|what| content(&self.cert, what))?;
        let own = Certificate::of(&chain[0]).map_err(|what| content(&self.cert, what))?;
        let key = PrivateKeyDer::from_pem_slice(&bytes.key).map_err(|error| {
            content(
                &self.key,
                format!("holds no private key in PEM that this service can read ({error})"),
            )
        })?;
        let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| TlsError::Pair {
            cert: shown(&self.cert),
            key: shown(&self.key),
            what: error.to_string(),
        })?;
        let mut roots = RootCertStore::empty();
        let mut all = vec![(self.cert.0, own)];
        for der in certificates(&bytes.ca).map_err(|what| content(&self.ca, what))? {
            let ca = Certificate::of(&der).map_err(|what| content(&self.ca, what))?;
            if !ca.is_ca {
                let what = format!("holds the certificate of {}, which is no CA", ca.name());
                return Err(content(&self.ca, what));
            }
            roots
                .add(der)
                .map_err(|error| content(&self.ca, format!("holds a CA that cannot be used: {error}")))?;
            all.push((self.ca.0, ca));
        }
        Ok(Material {
            own: Arc::new(pair),
            roots: Arc::new(roots),
            certificates: all,
        })
    }

    /// Warns if others can read the key.
    pub(super) fn look_at_key(&self) {
        let (flag, path) = &self.key;
        let mode = std::fs::metadata(path).map(|found| found.permissions().mode());
        if let Ok(mode) = mode
            && mode & OTHERS != 0
        {
            tracing::warn!(
                path = %path.display(), mode = format_args!("{:04o}", mode & 0o7777),
                "other users can read the key of {flag}: chmod 600 {}", path.display()
            );
        }
    }
}

fn read((flag, path): &Named) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::Read {
        flag,
        path: path.clone(),
        error,
    };
    let mut bytes = Vec::new();
    let file = open(path).map_err(failed)?;
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        let what = format!("has more than {MOST_BYTES} bytes");
        return Err(content(&(flag, path.clone()), what));
    }
    Ok(bytes)
}

/// Opens a file without blocking: a file that is not a regular one must not make the service wait for another
/// program.
fn open(path: &Path) -> std::io::Result<File> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("it is not a regular file")),
    }
}

fn content((flag, path): &Named, what: String) -> TlsError {
    TlsError::Content {
        flag,
        path: path.clone(),
        what,
    }
}

fn shown((flag, path): &Named) -> String {
    format!("{flag} {}", path.display())
}

/// The bytes of a key appear in no log.
impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bytes(…)")
    }
}
