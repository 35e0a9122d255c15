//! The peer of a connection.

use std::fmt;

use common::fault::{Fault, FaultCode};
use common::id::{EngineId, HostId, in_any_case};
use common::text;
use proto::access::{Access, Role, access};
use rustls::pki_types::CertificateDer;

use super::certificate::Certificate;

/// The prefix of an engine's id in a certificate.
pub(super) const ENGINE: &str = "engine:";

/// The prefix of a host's id in a certificate.
pub(super) const HOST: &str = "host:";

const USER: &str = "user:";
const ROLE: &str = "role:";

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// An engine: it may change things on its own hosts.
    Engine(EngineId),
    /// A person, or a person's program.
    User {
        /// The user's name.
        name: String,
        /// What the user may do.
        role: Role,
    },
}

/// The peer of a connection, proved in the handshake.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Whom the certificate names.
    pub identity: Identity,
    /// The certificate, and those between it and its CA.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Peer {
    /// Reads the identity of a verified chain.
    ///
    /// # Errors
    /// Words, if the certificate names nobody who may call.
    pub(super) fn of(chain: &[CertificateDer<'static>]) -> Result<Self, String> {
        let own = chain.first().ok_or("shows no certificate")?;
        Ok(Self {
            identity: Identity::of(&Certificate::of(own)?)?,
            chain: chain.to_vec(),
        })
    }

    /// Checks whether the peer may call this RPC.
    ///
    /// # Errors
    /// `NOT_PERMITTED`, which says who the peer is and which role the RPC requires.
    pub fn may(&self, path: &str) -> Result<(), Fault> {
        let needed = match access(path) {
            // Every peer may call health and reflection.
            None => return Ok(()),
            Some(needed) => needed,
        };
        if needed.permits(self.identity.role()) {
            return Ok(());
        }
        let words = match needed {
            Access::Engine => format!(
                "only the engine that owns this host may change anything on it, and the certificate names {}: request \
                 the change from that engine. Nothing was done",
                self.identity
            ),
            Access::User(role) => format!(
                "this call requires the role {role}, and the certificate names {}. Nothing was done",
                self.identity
            ),
        };
        Err(Fault::new(FaultCode::NotPermitted, words))
    }
}

impl Identity {
    /// What the user may do; none of an engine.
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::Engine(_) => None,
            Self::User { role, .. } => Some(*role),
        }
    }

    /// Reads whom a certificate names.
    ///
    /// # Errors
    /// Words, if the certificate names nobody who may call, or more than one.
    pub(super) fn of(certificate: &Certificate) -> Result<Self, String> {
        if let Some(id) = certificate.uri(ENGINE)? {
            return engine(id).map(Self::Engine);
        }
        if let Some(id) = certificate.uri(HOST)? {
            return Err(format!(
                "shows the certificate of host {id}, but hosts may call nobody"
            ));
        }
        let name = match certificate.uri(USER)? {
            Some(name) => name,
            None => &certificate.common_name,
        };
        text::name(name).map_err(|error| {
            format!("shows a certificate that names no user (user:NAME, or a common name): its name {error}")
        })?;
        let role = match certificate.uri(ROLE)? {
            None => Role::Viewer,
            Some(role) => role.parse().map_err(|()| {
                format!(
                    "shows a certificate with the unknown role {role:?}; expected viewer, operator or admin"
                )
            })?,
        };
        Ok(Self::User {
            name: name.to_owned(),
            role,
        })
    }

    /// The engine that a certificate names.
    ///
    /// # Errors
    /// Words, if the certificate names none.
    pub(super) fn engine_of(certificate: &Certificate) -> Result<EngineId, String> {
        match certificate.uri(ENGINE)? {
            Some(id) => engine(id),
            None => Err(format!(
                "names no engine ({ENGINE}UUID), but {}; `engine-svc pki issue-engine` makes one that does",
                certificate.name()
            )),
        }
    }

    /// The host that a certificate names; none if it names no host.
    ///
    /// # Errors
    /// Words, if the certificate names two hosts, or the name is no id.
    pub(super) fn host_of(certificate: &Certificate) -> Result<Option<HostId>, String> {
        let id = certificate.uri(HOST)?;
        id.map(|id| in_any_case(id).map_err(|error| format!("names host {id:?}, which {error}")))
            .transpose()
    }
}

fn engine(id: &str) -> Result<EngineId, String> {
    in_any_case(id).map_err(|error| format!("shows a certificate of engine {id:?}, which {error}"))
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(id) => write!(f, "engine {id}"),
            Self::User { name, role } => write!(f, "user {name:?} with the role {role}"),
        }
    }
}
