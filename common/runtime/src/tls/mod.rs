//! Locked doors: TLS 1.3 with a certificate on both sides, on what a service serves and on the way from the engine to its hosts
//! (docs/adr/0021).
//!
//! - Who is there is known before the first byte of a call is read: a peer without a certificate of the CA is refused in the
//!   handshake, and one with a certificate has one [`Identity`].
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

/// Why there is no lock on a door, or why it stays shut.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Some of the three files are named, and not all.
    #[error("{given} is given, and {missing} is not: TLS takes all three of {all}")]
    Incomplete {
        /// The flags that are given.
        given: String,
        /// Those that are missing.
        missing: String,
        /// All of them.
        all: String,
    },
    /// A file cannot be read.
    #[error("the file of {flag}, {}, cannot be read", path.display())]
    Read {
        /// What names it.
        flag: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// A file holds something else.
    #[error("the file of {flag}, {}, {what}", path.display())]
    Content {
        /// What names it.
        flag: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Certificate and key do not belong together, or the library takes neither.
    #[error("{cert} and {key} cannot be used together: {what}")]
    Pair {
        /// The certificate's file.
        cert: String,
        /// The key's.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// The engine's certificate is another engine's.
    #[error(
        "the certificate of --host-tls-cert names engine {named}, and this data directory is engine {own}: issue one for it \
         (`engine-svc pki issue-engine --engine-id {own}`), or give the directory of engine {named}"
    )]
    OtherEngine {
        /// Whose it is.
        named: EngineId,
        /// Which engine this is.
        own: EngineId,
    },
    /// Plain text on an address that others reach.
    #[error(
        "refusing to listen on {0} in plain text: whoever reaches that address may do all that this service can do. Give \
         --tls-cert, --tls-key and --tls-client-ca (`engine-svc pki` makes them), listen on loopback (127.0.0.1), or say --insecure \
         if a network or a proxy keeps strangers out"
    )]
    Plain(std::net::SocketAddr),
}

/// Has the metrics tell when the certificates of a service end, and that plain text may leave the machine.
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

/// Of the own certificate, and of the CA that ends first, in seconds since 1970.
fn first_to_end(certificates: &[(&str, Certificate)], own: &str, ca: &str) -> Vec<(String, i64)> {
    let mut ends = certificates
        .iter()
        .map(|(_, certificate)| certificate.not_after.as_micros() / 1_000_000);
    let first = ends.next().map(|end| (own.to_owned(), end));
    let ca = ends.min().map(|end| (ca.to_owned(), end));
    first.into_iter().chain(ca).collect()
}

/// The cryptography: ring, which builds with a C compiler alone.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The one version that is spoken.
static VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What is spoken inside.
fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec()]
}
