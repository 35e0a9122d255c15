//! An entry and its line.

use std::net::IpAddr;

use common::fault::FaultCode;
use common::time::Timestamp;
use common::words::Label;
use proto::convert;
use serde_json::{Value, json};

use crate::clock;

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The request was accepted, or done.
    Accepted,
    /// An earlier call with the same request id had been accepted; nothing was done again.
    Repeated,
    /// Only the plan was requested (`validate_only`).
    Planned,
    /// Nothing was done; the code says why.
    Refused,
    /// The caller got no answer that says whether the request took effect; the service's records say.
    Unknown,
}

impl Outcome {
    /// The name, as it stands in lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Repeated => "repeated",
            Self::Planned => "planned",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// What is recorded about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When the call ended.
    pub time: Timestamp,
    /// The RPC: `package.Service/Method`; empty if a client was refused in the handshake, before any call.
    pub rpc: Label,
    /// The user whom the certificate names; without TLS `x-user`, or the address of the caller.
    pub user: Label,
    /// The role in the certificate, or `engine`; empty without a certificate.
    pub role: &'static str,
    /// The address of the caller; empty if the network has none.
    pub peer: Label,
    /// `x-correlation-id`, or the one that the service made for the call; may be empty.
    pub correlation_id: Label,
    /// What the call is about, as kind and id; empty if the call did not get that far.
    pub entity: Label,
    /// The command that the call became or was about; may be empty.
    pub command_id: Label,
    /// The outcome.
    pub outcome: Outcome,
    /// The code of the refusal.
    pub code: Option<FaultCode>,
    /// The field that is wrong, or the subject of the refusal; may be empty.
    pub subject: Label,
    /// The message of the refusal; may be empty.
    pub message: Label,
}

impl Entry {
    /// The entry of a client that showed no acceptable certificate.
    pub(super) fn turned_away(peer: Option<IpAddr>, what: &str) -> Self {
        Self {
            time: clock::now(),
            rpc: Label::default(),
            user: Label::default(),
            role: "",
            peer: peer.map(|peer| peer.to_string().into()).unwrap_or_default(),
            correlation_id: Label::default(),
            entity: Label::default(),
            command_id: Label::default(),
            outcome: Outcome::Refused,
            code: Some(FaultCode::NotPermitted),
            subject: "certificate".into(),
            message: format!("the client {what}").into(),
        }
    }

    /// The line: JSON and the newline. Empty values are left out.
    pub(super) fn line(&self) -> Vec<u8> {
        let texts = [
            ("rpc", &*self.rpc),
            ("user", &*self.user),
            ("role", self.role),
            ("peer", &*self.peer),
            ("correlation_id", &*self.correlation_id),
            ("entity", &*self.entity),
            ("command_id", &*self.command_id),
            ("code", self.code.map_or("", FaultCode::as_str)),
            ("subject", &*self.subject),
            ("message", &*self.message),
        ];
        let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
        let texts = texts.map(|(name, text)| (name, json!(text)));
        line(self.time, self.outcome.as_str(), texts)
    }
}

/// The line that counts missing entries: `left_out` (refusals over the limit) or `lost` (no room).
pub(super) fn missing(time: Timestamp, outcome: &str, count: u64) -> Vec<u8> {
    line(time, outcome, [("count", json!(count))])
}

/// An object with these fields, in this order; their names need no escapes.
fn line<'n>(time: Timestamp, outcome: &str, fields: impl IntoIterator<Item = (&'n str, Value)>) -> Vec<u8> {
    let time = convert::timestamp(time).to_string();
    let first = [("time", json!(time)), ("outcome", json!(outcome))];
    let fields = first.into_iter().chain(fields);
    let fields: Vec<_> = fields
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}\n", fields.join(",")).into_bytes()
}
