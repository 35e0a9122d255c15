//! Prints certificates for people.

use std::path::{Path, PathBuf};

use common::id::EngineId;
use runtime::clock;
use runtime::tls::Certificate;

use super::{PkiError, file as at};

/// The endings of certificates' file names.
const ENDINGS: [&str; 2] = ["crt", "pem"];

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// The lines for all these files, and for the files in these directories.
pub(super) fn all(paths: &[PathBuf]) -> Result<Vec<String>, PkiError> {
    let mut lines = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => lines.extend(directory(path)?),
            false => lines.extend(file(path)?),
        }
    }
    Ok(lines)
}

/// The lines for a directory, and for the directories in it.
fn directory(path: &Path) -> Result<Vec<String>, PkiError> {
    let mut below = Vec::new();
    for entry in std::fs::read_dir(path).map_err(at(path))? {
        below.push(entry.map_err(at(path))?.path());
    }
    below.sort();
    let mut lines = Vec::new();
    for path in below {
        let is_certificate = path
            .extension()
            .is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        // No deeper: `pki` makes one level of directories.
        if path.is_dir() {
            let inner = std::fs::read_dir(&path).map_err(at(&path))?.flatten();
            let mut inner: Vec<_> = inner.map(|entry| entry.path()).collect();
            inner.sort();
            for path in inner.iter().filter(|path| path.ends_with(super::files::CERT)) {
                lines.extend(file(path)?);
            }
        } else if is_certificate {
            lines.extend(file(&path)?);
        }
    }
    Ok(lines)
}

/// The engine that the first certificate of a file names; none if there is no such file, or it names none.
pub(super) fn engine_of(path: &Path) -> Result<Option<EngineId>, PkiError> {
    if !path.exists() {
        return Ok(None);
    }
    let found = read(path)?;
    let names = found
        .first()
        .map(|first| first.uris.as_slice())
        .unwrap_or_default();
    let engine = names.iter().find_map(|uri| uri.strip_prefix("engine:"));
    Ok(engine.and_then(|id| id.parse().ok()))
}

fn read(path: &Path) -> Result<Vec<Certificate>, PkiError> {
    let pem = std::fs::read(path).map_err(at(path))?;
    Certificate::all_of(&pem).map_err(|what| PkiError::Content {
        path: path.to_owned(),
        what,
    })
}

/// The lines for one file.
pub(super) fn file(path: &Path) -> Result<Vec<String>, PkiError> {
    Ok(read(path)?
        .iter()
        .map(|certificate| format!("{}: {}", path.display(), line(certificate)))
        .collect())
}

fn line(certificate: &Certificate) -> String {
    let what = match (
        certificate.is_ca,
        certificate.for_servers,
        certificate.for_clients,
    ) {
        (true, ..) => "a CA",
        (false, true, true) => "for a server and client",
        (false, true, false) => "for a server",
        (false, false, true) => "for a client",
        (false, false, false) => "for neither server nor client",
    };
    let now = clock::now();
    let left = certificate.not_after.as_micros() - now.as_micros();
    let left = match left {
        left if left <= 0 => "EXPIRED".to_owned(),
        _ if certificate.not_before > now => "not valid yet".to_owned(),
        left => format!("{} days left", left / DAY_MICROS),
    };
    format!(
        "{}; {what}; until {} ({left}); serial {}",
        certificate.name(),
        certificate.until,
        certificate.serial
    )
}
