//! TLS of a service's server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::Certificate;
use super::files::{Files, Material};
use super::kept::Kept;
use super::peer::{Identity, Peer};
use super::{TlsError, VERSIONS, alpn, provider, words};

/// How often the certificate of an open connection is checked again: a client whose certificate has expired is
/// disconnected within this time.
const LOOK: Duration = Duration::from_secs(60);

/// TLS for clients: each shows a certificate of a CA of ours.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<Kept<Lock>>);

#[derive(Debug)]
struct Lock {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Lock {
    fn of(material: &Material, files: &Files) -> Result<Self, TlsError> {
        if let Some((flag, own)) = material.certificates.first()
            && !own.for_servers
        {
            return Err(TlsError::Content {
                flag,
                path: files.cert.1.clone(),
                what: format!(
                    "holds the certificate of {}, which is not for a server",
                    own.name()
                ),
            });
        }
        let unusable = |error: &dyn std::fmt::Display| TlsError::Content {
            flag: files.ca.0,
            path: files.ca.1.clone(),
            what: format!("holds CAs that cannot be used: {error}"),
        };
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&material.roots), provider())
            .build()
            .map_err(|error| unusable(&error))?;
        let verifier: Arc<dyn ClientCertVerifier> = Arc::new(Known(verifier));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(|error| unusable(&error))?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&material.own))));
        config.alpn_protocols = alpn();
        // No session is resumed: a ticket would admit a client without its certificate.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Self {
            config: Arc::new(config),
            verifier,
        })
    }
}

/// Accepts certificates of the CA that name somebody who may call.
#[derive(Debug)]
struct Known(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Known {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        let named = Certificate::of(end_entity).and_then(|certificate| Identity::of(&certificate));
        named.map(|_| verified).map_err(words::refusal)
    }

    /// Never called: no earlier version than TLS 1.3 is spoken.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl ServerTls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be used.
    pub(super) fn open(files: Files) -> Result<Self, TlsError> {
        let named = files.clone();
        Kept::open(files, move |material| Lock::of(material, &named)).map(Self)
    }

    /// Performs the handshake, which takes as long as the other end does.
    ///
    /// # Errors
    /// What the other end did wrong, in words, and the connection, on which the other end was told.
    pub(crate) async fn shake_hands<C>(&self, io: C) -> Result<(TlsStream<C>, Peer), (String, Option<C>)>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.0.now().made.config));
        let stream = acceptor.accept(io).into_fallible().await;
        let stream = stream.map_err(|(error, io)| (words::of(&error), Some(io)))?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        match Peer::of(chain) {
            Ok(peer) => Ok((stream, peer)),
            Err(what) => Err((what, None)),
        }
    }

    /// Completes when an accepted certificate is no longer accepted, and says why.
    pub(crate) async fn withdrawn(&self, peer: &Peer) -> String {
        let mut changes = self.0.changes();
        loop {
            let lock = self.0.now();
            if let Some((own, between)) = peer.chain.split_first()
                && let Err(error) = lock
                    .made
                    .verifier
                    .verify_client_cert(own, between, UnixTime::now())
            {
                return words::of(&io::Error::other(error));
            }
            // The sender lives as long as this value.
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Reads the files again when they change, and warns about certificates that expire.
    pub(crate) async fn keep(&self) {
        self.0.keep().await;
    }

    /// The certificates in use, each with the flag that names its file: the service's own, and the CAs of clients.
    pub fn certificates(&self) -> Vec<(&'static str, Certificate)> {
        self.0.certificates()
    }
}
