//! TLS to a host: the host's certificate must name that host, and the engine shows its own certificate.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use common::fault::Fault;
use common::id::{EngineId, HostId, in_any_case};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::certificate::Certificate;
use super::files::{Files, Material};
use super::kept::Kept;
use super::peer::{HOST, Identity};
use super::settings::is_this_machine;
use super::{TlsError, VERSIONS, alpn, provider, words};

/// The first byte of a TLS record that is an alert, and of one that is a handshake.
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

/// The name that a host's certificate must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// `host:UUID`, a URI: the default.
    Host(HostId),
    /// A DNS name.
    Dns(String),
}

impl HostName {
    /// Reads the name of the host `host_id`, as given; an empty one means the host's id.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, which names `identity`.
    pub fn of(identity: &str, host_id: HostId) -> Result<Self, Fault> {
        let wrong = |what: String| Fault::invalid("identity", what);
        if identity.is_empty() {
            return Ok(Self::Host(host_id));
        }
        if let Some(id) = identity.strip_prefix(HOST) {
            let named: HostId =
                in_any_case(id).map_err(|error| wrong(format!("names host {id:.100?}, which {error}")))?;
            return match named == host_id {
                true => Ok(Self::Host(named)),
                false => Err(wrong(format!(
                    "names host {named}, and the request is about host {host_id}; leave it empty, or give the DNS name that the \
                     host's certificate has"
                ))),
            };
        }
        match DnsName::try_from(identity) {
            Ok(name) if name.as_ref().parse::<std::net::IpAddr>().is_err() => {
                Ok(Self::Dns(name.as_ref().to_owned()))
            }
            _ => Err(wrong(format!(
                "is {identity:.300?}; expected host:UUID, or a DNS name, as in the host's certificate"
            ))),
        }
    }
}

impl HostName {
    /// The recorded form: empty for the default.
    pub fn recorded(self) -> String {
        match self {
            Self::Host(_) => String::new(),
            Self::Dns(name) => name,
        }
    }
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(id) => write!(f, "{HOST}{id}"),
            Self::Dns(name) => f.write_str(name),
        }
    }
}

/// TLS for connections to hosts, with the engine's own certificate.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<Kept<Key>>);

#[derive(Debug)]
struct Key {
    own: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    engine_id: EngineId,
}

impl Key {
    fn of(material: &Material, files: &Files, first: &OnceLock<EngineId>) -> Result<Self, TlsError> {
        let wrong = |what| TlsError::Content {
            flag: files.cert.0,
            path: files.cert.1.clone(),
            what,
        };
        let (_, own) = material
            .certificates
            .first()
            .ok_or_else(|| wrong("holds none".to_owned()))?;
        let named = Identity::engine_of(own).map_err(wrong)?;
        if !own.for_clients {
            let what = format!(
                "holds the certificate of {}, which is not for a client",
                own.name()
            );
            return Err(wrong(what));
        }
        let engine_id = *first.get_or_init(|| named);
        if engine_id != named {
            return Err(TlsError::OtherEngine {
                named,
                own: engine_id,
            });
        }
        Ok(Self {
            own: Arc::clone(&material.own),
            roots: Arc::clone(&material.roots),
            engine_id,
        })
    }
}

impl ClientTls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be used, for example because the certificate names no engine.
    pub fn open(files: Files) -> Result<Self, TlsError> {
        let (named, first) = (files.clone(), OnceLock::new());
        Kept::open(files, move |material| Key::of(material, &named, &first)).map(Self)
    }

    /// The engine that the certificate names; a new certificate must name the same engine.
    pub fn engine_id(&self) -> EngineId {
        self.0.now().made.engine_id
    }

    /// Checks that the certificate belongs to this engine.
    ///
    /// # Errors
    /// [`TlsError::OtherEngine`].
    pub fn is_of(&self, own: EngineId) -> Result<(), TlsError> {
        let named = self.engine_id();
        match named == own {
            true => Ok(()),
            false => Err(TlsError::OtherEngine { named, own }),
        }
    }

    /// Reads the files again when they change, and warns about certificates that expire.
    pub async fn keep(&self) {
        self.0.keep().await;
    }

    /// The certificates in use, each with the flag that names its file: the engine's own, and the CAs of hosts.
    pub fn certificates(&self) -> Vec<(&'static str, Certificate)> {
        self.0.certificates()
    }

    async fn shake_hands(
        &self,
        tcp: TcpStream,
        to: &Uri,
        name: &HostName,
    ) -> io::Result<TlsStream<TcpStream>> {
        let key = self.0.now();
        let verifier = Expected {
            name: name.clone(),
            roots: Arc::clone(&key.made.roots),
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&key.made.own))));
        config.alpn_protocols = alpn();
        config.resumption = Resumption::disabled();
        let asked = asked_for(to, name)?;
        let shaken = TlsConnector::from(Arc::new(config)).connect(asked, tcp).await;
        shaken.map_err(|error| refused(&error))
    }
}

/// The server name that the host is asked for (SNI), whichever name its certificate is checked for.
fn asked_for(to: &Uri, name: &HostName) -> io::Result<ServerName<'static>> {
    let name = match name {
        HostName::Dns(name) => name.as_str(),
        HostName::Host(_) => to.host().unwrap_or_default().trim_matches(['[', ']']),
    };
    ServerName::try_from(name.to_owned()).map_err(io::Error::other)
}

/// A host that is refused, or that refuses, in words that survive HTTP/2's own errors.
#[derive(Debug, thiserror::Error)]
#[error("the host {0}")]
struct Refused(String);

fn refused(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), Refused(words::of(error)))
}

/// Accepts the certificate of one host.
#[derive(Debug)]
struct Expected {
    name: HostName,
    roots: Arc<RootCertStore>,
}

impl Expected {
    fn is_named(
        &self,
        own: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
    ) -> Result<(), rustls::Error> {
        let is_named = match &self.name {
            HostName::Host(expected) => Certificate::of(own)
                .and_then(|certificate| Identity::host_of(&certificate))
                .map_err(words::refusal)?
                .is_some_and(|named| named == *expected),
            HostName::Dns(name) => DnsName::try_from(name.as_str())
                .is_ok_and(|name| verify_server_name(parsed, &ServerName::DnsName(name)).is_ok()),
        };
        match is_named {
            true => Ok(()),
            false => Err(words::refusal(self.another(own))),
        }
    }

    fn another(&self, own: &CertificateDer<'_>) -> String {
        let named = Certificate::of(own).map(|certificate| certificate.name());
        format!(
            "shows the certificate of {}, but {} is expected: check the address, or give AddHost the identity that is \
             in the host's certificate",
            named.unwrap_or_else(|what| what),
            self.name
        )
    }
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        self.is_named(end_entity, &parsed)?;
        Ok(ServerCertVerified::assertion())
    }

    /// Never called: no earlier version than TLS 1.3 is spoken.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Why a connection to a host has ended, if its first or last words say so: HTTP/2 drops such words. All clones share
/// them.
#[derive(Debug, Clone, Default)]
pub struct LastWords(Arc<OnceLock<String>>);

impl LastWords {
    /// The words, which begin with a verb: "refuses this end: …"; none if there are none.
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn keep(&self, error: io::Error) -> io::Error {
        if let Some(Refused(words)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            // The first words are the reason.
            let _ = self.0.set(words.clone());
        }
        error
    }
}

/// Connects to one host.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    tcp: HttpConnector,
    tls: Option<(ClientTls, HostName)>,
    /// Whether plain text may leave this machine.
    insecure: bool,
    last_words: LastWords,
}

impl Way {
    pub(crate) fn to(tls: Option<(ClientTls, HostName)>, insecure: bool, last_words: LastWords) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        Self {
            tcp,
            tls,
            insecure,
            last_words,
        }
    }

    async fn connect(mut self, to: Uri) -> io::Result<TokioIo<Spoken>> {
        let tcp = self
            .tcp
            .call(to.clone())
            .await
            .map_err(io::Error::other)?
            .into_inner();
        let inner = match &self.tls {
            Some((tls, name)) => Inner::Tls(Box::new(tls.shake_hands(tcp, &to, name).await?)),
            None => {
                let peer = tcp.peer_addr()?;
                if !is_this_machine(peer.ip()) && !self.insecure {
                    let words = format!(
                        "is at {peer}, which is not this machine, and plain text must not leave this machine: give \
                         --host-tls-cert, --host-tls-key and --host-tls-ca, or --insecure"
                    );
                    return Err(io::Error::other(Refused(words)));
                }
                Inner::Plain { tcp, is_new: true }
            }
        };
        let last_words = self.last_words;
        Ok(TokioIo::new(Spoken { inner, last_words }))
    }
}

impl Service<Uri> for Way {
    type Response = TokioIo<Spoken>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().connect(to))
    }
}

/// A connection to a host.
pub(crate) struct Spoken {
    inner: Inner,
    last_words: LastWords,
}

enum Inner {
    Plain {
        tcp: TcpStream,
        /// Whether nothing was read yet.
        is_new: bool,
    },
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Spoken {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, last_words } = self.get_mut();
        match inner {
            Inner::Plain { tcp, is_new } => {
                let before = into.filled().len();
                let polled = Pin::new(tcp).poll_read(context, into);
                if let Some(first) = into.filled().get(before)
                    && std::mem::take(is_new)
                    && TLS_RECORDS.contains(first)
                {
                    let words = "speaks TLS, and this engine does not: give --host-tls-cert, --host-tls-key and --host-tls-ca";
                    let refused = io::Error::other(Refused(words.to_owned()));
                    return Poll::Ready(Err(last_words.keep(refused)));
                }
                polled
            }
            // Only now does a host say whether it accepts the engine's certificate.
            Inner::Tls(tls) => {
                let polled = Pin::new(tls).poll_read(context, into);
                polled.map_err(|error| last_words.keep(refused(&error)))
            }
        }
    }
}

impl AsyncWrite for Spoken {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Plain { tcp, .. } => Pin::new(tcp).poll_write(context, bytes),
            Inner::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Plain { tcp, .. } => Pin::new(tcp).poll_write_vectored(context, bytes),
            Inner::Tls(tls) => Pin::new(tls).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Plain { tcp, .. } => tcp.is_write_vectored(),
            Inner::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain { tcp, .. } => Pin::new(tcp).poll_flush(context),
            Inner::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain { tcp, .. } => Pin::new(tcp).poll_shutdown(context),
            Inner::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
