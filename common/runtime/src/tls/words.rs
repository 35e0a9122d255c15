//! What went wrong in a handshake, in words that say what to do.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

/// The maximum number of characters taken from the library's words.
const MOST_CHARS: usize = 300;

/// The refusal of a certificate that the library accepts, in words that [`of`] returns.
pub(super) fn refusal(what: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Words(what)))))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Words(String);

/// What the other end did wrong, in words that begin with a verb: "shows no certificate …".
pub(super) fn of(error: &io::Error) -> String {
    let below = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let words = match below {
        Some(error) => of_tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "hangs up in the handshake".to_owned(),
        None => format!("breaks the connection: {error}"),
    };
    words.chars().take(MOST_CHARS).collect()
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "shows no certificate, but must show one".to_owned(),
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(what) => {
            format!("does not speak TLS 1.3 in a way that this side accepts ({what:?})")
        }
        Error::InvalidMessage(what) => {
            format!("does not speak TLS: plain text, or something else ({what:?})")
        }
        other => format!("does not speak TLS as it should: {other}"),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    let what = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "that has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "that is not valid yet; check both clocks".to_owned()
        }
        CertificateError::UnknownIssuer => "of a CA that is not trusted here".to_owned(),
        // A CA of that name is known, but has not signed the certificate.
        CertificateError::BadSignature => "that no CA trusted here has signed".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "that is not for this purpose (extended key usage): servers and clients have certificates of their own".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("of another name: {error}")
        }
        CertificateError::Other(OtherError(own)) if own.is::<Words>() => return own.to_string(),
        other => format!("that cannot be used: {other}"),
    };
    format!("shows a certificate {what}")
}

/// What the other end says about this end's certificate.
fn of_alert(alert: AlertDescription) -> String {
    let what = match alert {
        AlertDescription::CertificateRequired => "it wants a certificate, and was shown none",
        AlertDescription::UnknownCA => "it does not trust the CA of the certificate that it was shown",
        AlertDescription::CertificateExpired => {
            "the certificate that it was shown has expired, or is not valid yet by its clock"
        }
        AlertDescription::AccessDenied => "the certificate that it was shown names somebody else",
        AlertDescription::UnsupportedCertificate => {
            "the certificate that it was shown is not for this purpose: servers and clients have certificates of their own"
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::DecryptError => "it does not accept the certificate that it was shown",
        AlertDescription::ProtocolVersion => {
            "it does not speak TLS 1.3, the only version that is spoken here"
        }
        other => return format!("refuses this end ({other:?}); its log says why"),
    };
    format!("refuses this end: {what}; its log says more")
}
