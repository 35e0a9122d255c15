//! TLS 1.3 with a certificate on both sides, for a service's server and for the engine's connections to its hosts
//! (docs/adr/0021).
//!
//! - The peer is known before the first byte of a call is read: a peer without a certificate of the CA is refused in
//!   the handshake, and a peer with a certificate has one [`Identity`].
//! - Files are read again when they change, and at SIGHUP; what cannot be used changes nothing, and the log says so.
//! - Plain text is for loopback. Anything else must be asked for (`--insecure`).
//! - No session is resumed: each handshake looks at the certificate, so what is withdrawn is withdrawn.

mod certificate;
mod client;
mod files;
mod kept;
mod peer;
mod server;
mod settings;
mod told;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

use common::id::EngineId;
use rustls::crypto::CryptoProvider;

use crate::metrics::Meters;

pub use self::certificate::Certificate;
pub(crate) use self::client::Way;
pub use self::client::{ClientTls, HostName, LastWords};
pub use self::files::Files;
pub use self::peer::{Identity, Peer};
pub use self::server::ServerTls;
pub use self::settings::{Door, HostDoor};
pub(crate) use self::told::Told;

/// Why TLS cannot be set up, or why it is required.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Some of the three files are named, but not all.
    #[error("{given} without {missing}: TLS needs all three of {all}")]
    Incomplete {
        /// The given flags.
        given: String,
        /// The missing flags.
        missing: String,
        /// All three flags.
        all: String,
    },
    /// A file cannot be read.
    #[error("the file of {flag}, {}, cannot be read", path.display())]
    Read {
        /// The flag that names the file.
        flag: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        #[source]
        error: std::io::Error,
    },
    /// A file holds something else.
    #[error("the file of {flag}, {}, {what}", path.display())]
    Content {
        /// The flag that names the file.
        flag: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Certificate and key do not belong together, or the library accepts neither.
    #[error("{cert} and {key} cannot be used together: {what}")]
    Pair {
        /// The flag and path of the certificate.
        cert: String,
        /// The flag and path of the key.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// The certificate names another engine.
    #[error(
        "the certificate of --host-tls-cert names engine {named}, but this data directory belongs to engine {own}: \
         issue a certificate for it (`engine-svc pki issue-engine --engine-id {own}`), or use the data directory of \
         engine {named}"
    )]
    OtherEngine {
        /// The engine that the certificate names.
        named: EngineId,
        /// The engine of the data directory.
        own: EngineId,
    },
    /// Plain text on an address that others can reach.
    #[error(
        "refusing to listen on {0} in plain text: whoever can reach that address could do everything that this \
         service can do. Give --tls-cert, --tls-key and --tls-client-ca (`engine-svc pki` makes them), listen on \
         loopback (127.0.0.1), or give --insecure if a network or a proxy keeps strangers out"
    )]
    Plain(std::net::SocketAddr),
}

/// Shows in the metrics when the certificates of a service expire, and whether plain text may leave the machine.
pub fn measure(meters: &Meters, insecure: bool, server: Option<&ServerTls>, client: Option<&ClientTls>) {
    if insecure {
        meters.set_plain_text();
    }
    let (server, client) = (server.cloned(), client.cloned());
    meters.set_certificates(move || {
        let of_server = server
            .iter()
            .map(|tls| (tls.certificates(), ["server", "client_ca"]));
        let of_client = client
            .iter()
            .map(|tls| (tls.certificates(), ["client", "host_ca"]));
        let all = of_server.chain(of_client);
        all.flat_map(|(certificates, [own, ca])| first_to_end(&certificates, own, ca))
            .collect()
    });
}

/// The ends of validity, in seconds since 1970, of the own certificate and of the CA that expires first.
fn first_to_end(certificates: &[(&str, Certificate)], own: &str, ca: &str) -> Vec<(String, i64)> {
    let mut ends = certificates
        .iter()
        .map(|(_, certificate)| certificate.not_after.as_micros() / 1_000_000);
    let first = ends.next().map(|end| (own.to_owned(), end));
    let ca = ends.min().map(|end| (ca.to_owned(), end));
    first.into_iter().chain(ca).collect()
}

/// The cryptography library: ring, which needs only a C compiler to build.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The only version that is spoken.
static VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The protocol spoken inside TLS.
fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec()]
}
