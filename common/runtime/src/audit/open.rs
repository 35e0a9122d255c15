//! A call from its start to its entry.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::fault::{Fault, FaultCode, FaultKind};
use common::words::Label;
use http::HeaderValue;
use http::request::Parts;
use proto::access;
use tonic::transport::server::TcpConnectInfo;

use super::{Audit, Entry, Outcome};
use crate::clock;
use crate::tls::{Identity, Peer};

tokio::task_local! {
    static OPEN: Arc<Open>;
}

/// What only the handler of a call knows about the call.
#[derive(Debug, Default)]
pub struct Noted {
    /// The outcome if the call is not refused; [`Outcome::Accepted`] if the handler says nothing.
    pub outcome: Option<Outcome>,
    /// The correlation id, if the service made one.
    pub correlation_id: Option<Label>,
    /// What the call is about, as kind and id.
    pub entity: Label,
    /// The command that the call became or is about.
    pub command_id: Label,
}

/// Adds to the entry of the call that is being served. Does nothing outside of a call, or if nobody keeps entries.
pub fn note(add: impl FnOnce(&mut Noted)) {
    // The error says that there is no entry to add to.
    let _ = OPEN.try_with(|open| add(&mut open.lock().noted));
}

/// Serves a call whose handler may [`note`].
pub(crate) async fn within<T>(open: Option<Arc<Open>>, served: impl Future<Output = T>) -> T {
    match open {
        Some(open) => OPEN.scope(open, served).await,
        None => served.await,
    }
}

/// Who asks for what, and from where.
#[derive(Debug)]
pub(crate) struct Asked {
    rpc: Label,
    peer: Option<Arc<Peer>>,
    address: Option<SocketAddr>,
    user: Option<HeaderValue>,
    correlation_id: Option<HeaderValue>,
}

impl Asked {
    /// Reads the head of a request. Its values are not validated yet.
    fn of(head: &Parts) -> Self {
        let extensions = &head.extensions;
        Self {
            rpc: head.uri.path().trim_start_matches('/').into(),
            peer: extensions.get::<Arc<Peer>>().cloned(),
            address: extensions
                .get::<TcpConnectInfo>()
                .and_then(TcpConnectInfo::remote_addr),
            user: head.headers.get("x-user").cloned(),
            correlation_id: head.headers.get("x-correlation-id").cloned(),
        }
    }

    fn user(&self) -> Label {
        match (self.peer.as_ref().map(|peer| &peer.identity), &self.user) {
            (Some(Identity::User { name, .. }), _) => name.as_str().into(),
            (Some(identity @ Identity::Engine(_)), _) => identity.to_string().into(),
            (None, Some(user)) => text(user),
            (None, None) => self
                .address
                .map_or_else(|| "unknown".into(), |address| address.ip().to_string().into()),
        }
    }

    fn role(&self) -> &'static str {
        match self.peer.as_ref().map(|peer| &peer.identity) {
            Some(Identity::User { role, .. }) => role.as_str(),
            Some(Identity::Engine(_)) => "engine",
            None => "",
        }
    }
}

/// A running call of the contract. The call gets one entry at most: when it has ended, or when it is dropped before.
#[derive(Debug)]
pub(crate) struct Open {
    audit: Audit,
    asked: Asked,
    /// The call gets an entry also if it is not refused.
    changes: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    noted: Noted,
    refused: Option<Fault>,
    is_entered: bool,
}

impl Open {
    /// The call with this head; none if nobody keeps entries, or if the path is not one of the contract (health,
    /// reflection).
    pub(crate) fn begin(audit: &Audit, head: &Parts) -> Option<Arc<Self>> {
        if !audit.is_on() {
            return None;
        }
        let changes = access::changes(head.uri.path())?;
        Some(Arc::new(Self {
            audit: audit.clone(),
            asked: Asked::of(head),
            changes,
            state: Mutex::default(),
        }))
    }

    /// The call is refused with this fault. A call that only looks gets an entry if the caller is not permitted.
    pub(crate) fn refuse(&self, fault: &Fault) {
        let mut state = self.lock();
        state.refused = Some(fault.clone());
        if !self.changes && fault.code.kind() == FaultKind::PermissionDenied {
            self.enter(&mut state);
        }
    }

    /// The call has ended.
    pub(crate) fn end(&self) {
        if self.changes {
            self.enter(&mut self.lock());
        }
    }

    fn enter(&self, state: &mut State) {
        if std::mem::replace(&mut state.is_entered, true) {
            return;
        }
        let noted = std::mem::take(&mut state.noted);
        let fault = state.refused.take();
        let outcome = match &fault {
            Some(fault) if says_nothing(fault.code) => Outcome::Unknown,
            Some(_) => Outcome::Refused,
            None => noted.outcome.unwrap_or(Outcome::Accepted),
        };
        self.audit.enter(self.entry(outcome, noted, fault));
    }

    fn entry(&self, outcome: Outcome, noted: Noted, fault: Option<Fault>) -> Entry {
        let given = || self.asked.correlation_id.as_ref().map(text);
        let correlation_id = noted.correlation_id.or_else(given).unwrap_or_default();
        let address = self.asked.address.map(|address| address.to_string());
        Entry {
            time: clock::now(),
            rpc: self.asked.rpc.clone(),
            user: self.asked.user(),
            role: self.asked.role(),
            peer: address.map(Label::from).unwrap_or_default(),
            correlation_id,
            entity: noted.entity,
            command_id: noted.command_id,
            outcome,
            code: fault.as_ref().map(|fault| fault.code),
            subject: fault
                .as_ref()
                .map(|fault| Label::of(&fault.subject))
                .unwrap_or_default(),
            message: fault.map(|fault| Label::of(&fault.message)).unwrap_or_default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !self.changes || state.is_entered {
            return;
        }
        // The client left before the call had ended: the request may have taken effect.
        let noted = std::mem::take(&mut state.noted);
        let entry = self.entry(Outcome::Unknown, noted, None);
        self.audit.enter(entry);
    }
}

/// Whether an answer with this code leaves open whether the call took effect.
fn says_nothing(code: FaultCode) -> bool {
    matches!(
        code,
        FaultCode::DeadlineExceeded | FaultCode::StoreUnavailable | FaultCode::Internal | FaultCode::Aborted
    )
}

/// A value of the metadata, as received.
fn text(value: &HeaderValue) -> Label {
    String::from_utf8_lossy(value.as_bytes()).into_owned().into()
}
