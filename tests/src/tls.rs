//! Certificates for tests, and connections that show them.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context as Turn, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::failure::{Context as _, Failure, TestResult, ensure};
use crate::programs::program;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Where a certificate, its key and the CAs that its bearer trusts lie.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CAs.
    pub ca: PathBuf,
}

impl Keys {
    /// Those that lie in a directory under the names that `pki` gives them.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            cert: dir.join("tls.crt"),
            key: dir.join("tls.key"),
            ca: dir.join("ca.crt"),
        }
    }

    /// As a service's own, and the CAs of its clients.
    pub fn as_service(&self) -> [String; 6] {
        self.flags(["--tls-cert", "--tls-key", "--tls-client-ca"])
    }

    /// As what the engine shows to hosts.
    pub fn to_hosts(&self) -> [String; 6] {
        self.flags(["--host-tls-cert", "--host-tls-key", "--host-tls-ca"])
    }

    fn flags(&self, [cert, key, ca]: [&str; 3]) -> [String; 6] {
        let path = |path: &Path| path.display().to_string();
        [
            cert.to_owned(),
            path(&self.cert),
            key.to_owned(),
            path(&self.key),
            ca.to_owned(),
            path(&self.ca),
        ]
    }
}

/// A CA that `engine-svc pki` keeps.
#[derive(Debug, Clone)]
pub struct Pki {
    /// Where it lies.
    pub dir: PathBuf,
}

impl Pki {
    /// Makes one.
    ///
    /// # Errors
    /// When the program does not.
    pub fn make(dir: PathBuf) -> TestResult<Self> {
        run(&["init", "--dir", &dir.display().to_string()])?;
        Ok(Self { dir })
    }

    /// Has a certificate made; `more` says for whom.
    ///
    /// # Errors
    /// When the program does not make it.
    pub fn issue(&self, what: &str, out: &str, more: &[&str]) -> TestResult<Keys> {
        let (dir, out) = (self.dir.display().to_string(), self.dir.join(out));
        let to = out.display().to_string();
        let mut line = vec![what, "--dir", &dir, "--out", &to];
        line.extend(more);
        run(&line)?;
        Ok(Keys::in_dir(&out))
    }

    /// The engine's, to be reached at this address.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn engine(&self, address: &str) -> TestResult<Keys> {
        self.issue("issue-engine", "engine", &["--name", address])
    }

    /// A host's.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn host(&self, host_id: &str, address: &str) -> TestResult<Keys> {
        let out = format!("host-{host_id}");
        self.issue("issue-host", &out, &["--host-id", host_id, "--name", address])
    }

    /// A user's.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn user(&self, name: &str, role: &str) -> TestResult<Keys> {
        self.issue("issue-client", name, &["--user", name, "--role", role])
    }
}

/// What is on the doors of a world.
#[derive(Debug, Clone)]
pub struct Locks {
    /// The CA.
    pub pki: Pki,
    /// The engine's.
    pub engine: Keys,
    /// The host's.
    pub host: Keys,
    /// A user's, who may do everything.
    pub admin: Keys,
}

impl Locks {
    /// Makes all of them below a directory.
    ///
    /// # Errors
    /// When the program does not.
    pub fn make(dir: PathBuf, address: IpAddr, host_id: &str) -> TestResult<Self> {
        let (pki, address) = (Pki::make(dir)?, address.to_string());
        Ok(Self {
            engine: pki.engine(&address)?,
            host: pki.host(host_id, &address)?,
            admin: pki.user("ann", "admin")?,
            pki,
        })
    }
}

/// Runs `engine-svc pki`.
fn run(arguments: &[&str]) -> TestResult<()> {
    let done = Command::new(program("engine-svc")?)
        .arg("pki")
        .args(arguments)
        .output()?;
    ensure(done.status.success(), || {
        format!("pki {arguments:?}: {}", String::from_utf8_lossy(&done.stderr))
    })
}

/// A certificate such as `pki` does not make.
#[derive(Debug, Clone)]
pub struct Odd {
    /// Names that are URIs.
    pub uris: Vec<String>,
    /// What it is for.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// Days from now at which it begins and ends to be valid.
    pub days: (i64, i64),
}

impl Odd {
    /// That of a user, who may do everything.
    pub fn admin() -> Self {
        Self {
            uris: vec!["user:ann".to_owned(), "role:admin".to_owned()],
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            days: (-1, 1),
        }
    }

    /// Signs it with a CA that `pki` keeps.
    ///
    /// # Errors
    /// When the CA cannot be read, or files not be written.
    pub fn sign(&self, pki: &Pki, out: &str) -> TestResult<Keys> {
        let ca = std::fs::read_to_string(pki.dir.join("ca.crt"))?;
        let key = std::fs::read_to_string(pki.dir.join("ca.key"))?;
        let key = KeyPair::from_pem(&key)
            .map_err(Failure::new)
            .context("the CA's key")?;
        let issuer = Issuer::from_ca_cert_pem(&ca, key)
            .map_err(Failure::new)
            .context("the CA")?;
        let mut params = CertificateParams::default();
        for uri in &self.uris {
            let uri = Ia5String::try_from(uri.as_str())
                .map_err(Failure::new)
                .context("a URI")?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        let loopback = IpAddr::from([127, 0, 0, 1]);
        params.subject_alt_names.push(SanType::IpAddress(loopback));
        params.distinguished_name.push(DnType::CommonName, "odd");
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages.clone_from(&self.usages);
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::days(self.days.0);
        params.not_after = now + Duration::days(self.days.1);
        let key = KeyPair::generate().map_err(Failure::new).context("a key")?;
        let cert = params
            .signed_by(&key, &issuer)
            .map_err(Failure::new)
            .context("a certificate")?;
        let dir = pki.dir.join(out);
        std::fs::create_dir_all(&dir)?;
        let keys = Keys::in_dir(&dir);
        std::fs::write(&keys.cert, cert.pem())?;
        std::fs::write(&keys.key, key.serialize_pem())?;
        std::fs::write(&keys.ca, ca)?;
        Ok(keys)
    }
}

/// A certificate that its own bearer signed, of nobody's CA.
///
/// # Errors
/// When files cannot be written.
pub fn self_signed(dir: &Path, ca: &Path) -> TestResult<Keys> {
    let mut params = CertificateParams::default();
    let uri = Ia5String::try_from("user:ann")
        .map_err(Failure::new)
        .context("a URI")?;
    params.subject_alt_names.push(SanType::URI(uri));
    params.is_ca = IsCa::ExplicitNoCa;
    let key = KeyPair::generate().map_err(Failure::new).context("a key")?;
    let cert = params
        .self_signed(&key)
        .map_err(Failure::new)
        .context("a certificate")?;
    std::fs::create_dir_all(dir)?;
    let keys = Keys::in_dir(dir);
    std::fs::write(&keys.cert, cert.pem())?;
    std::fs::write(&keys.key, key.serialize_pem())?;
    std::fs::copy(ca, &keys.ca)?;
    Ok(keys)
}

/// How a client comes to a door.
#[derive(Debug, Clone)]
pub struct Knock {
    /// CAs of the server.
    pub ca: PathBuf,
    /// What it shows; none for nothing.
    pub shows: Option<Keys>,
}

impl Knock {
    /// As whoever these are.
    pub fn with(keys: &Keys) -> Self {
        Self {
            ca: keys.ca.clone(),
            shows: Some(keys.clone()),
        }
    }

    fn config(&self) -> TestResult<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for ca in certificates(&self.ca)? {
            roots.add(ca).map_err(Failure::new).context("a CA")?;
        }
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Failure::new)
            .context("the versions")?
            .with_root_certificates(roots);
        let mut config = match &self.shows {
            None => config.with_no_client_auth(),
            Some(keys) => {
                let key = PrivateKeyDer::from_pem_file(&keys.key)
                    .map_err(Failure::new)
                    .context("a key")?;
                let chain = certificates(&keys.cert)?;
                config
                    .with_client_auth_cert(chain, key)
                    .map_err(Failure::new)
                    .context("a certificate with its key")?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// A connection that is made when it is needed, and made again when it was lost.
    ///
    /// # Errors
    /// When the files cannot be used.
    pub fn channel(&self, address: SocketAddr) -> TestResult<Channel> {
        let way = Way {
            config: Arc::new(self.config()?),
            address,
        };
        Ok(Endpoint::from_shared(format!("http://{address}"))
            .context("an endpoint")?
            .connect_timeout(CONNECT_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(way))
    }

    /// One handshake.
    ///
    /// # Errors
    /// When it fails, or the files cannot be used.
    pub async fn shake_hands(&self, address: SocketAddr) -> TestResult<TlsStream<TcpStream>> {
        let config = Arc::new(self.config()?);
        Ok(shake_hands(config, address).await?)
    }
}

async fn shake_hands(config: Arc<ClientConfig>, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::from(address.ip());
    TlsConnector::from(config).connect(name, tcp).await
}

fn certificates(path: &Path) -> TestResult<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path)
        .map_err(Failure::new)
        .context(path.display())?;
    let found: Result<Vec<_>, _> = found.collect();
    found.map_err(Failure::new).context(path.display())
}

#[derive(Clone)]
struct Way {
    config: Arc<ClientConfig>,
    address: SocketAddr,
}

impl Service<Uri> for Way {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _turn: &mut Turn<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _to: Uri) -> Self::Future {
        let Self { config, address } = self.clone();
        Box::pin(async move { shake_hands(config, address).await.map(TokioIo::new) })
    }
}
