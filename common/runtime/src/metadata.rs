//! The caller, according to the metadata of a request.

use std::fmt;
use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::id::{EngineId, Incarnation, StoreId};
use tonic::Request;
use tonic::metadata::MetadataMap;

use crate::tls::{Identity, Peer};

/// Characters that a value in the metadata may have.
const MAX_CHARS: usize = 255;

const USER: &str = "x-user";
const CORRELATION_ID: &str = "x-correlation-id";
const ENGINE_ID: &str = "x-engine-id";
const ENGINE_EPOCH: &str = "x-engine-epoch";
const ENGINE_INCARNATION: &str = "x-engine-incarnation";
const STORE_ID: &str = "x-store-id";
const TRACEPARENT: &str = "traceparent";

/// The caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whom the certificate of the connection names. In plain text: `x-user`, else the peer's address.
    pub user: String,
    /// `x-correlation-id`, if it was given.
    pub correlation_id: Option<String>,
    /// Set if the caller is an engine.
    pub engine: Option<EngineCall>,
    /// The W3C trace context, passed on unchanged.
    pub traceparent: Option<String>,
}

/// What an engine says about itself when it calls a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineCall {
    /// The engine.
    pub engine_id: EngineId,
    /// Increases with each start of the engine.
    pub epoch: u64,
    /// The start of the engine, unique among copies of its data directory; none from engines of older builds.
    pub incarnation: Option<Incarnation>,
    /// The host's store that the call is meant for; none for any.
    pub store_id: Option<StoreId>,
}

impl Caller {
    /// Reads the metadata of a request.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming `metadata.` and the key; `NOT_PERMITTED` where it calls as an engine whose certificate it does
    /// not show.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Fault> {
        let metadata = request.metadata();
        let said = text(metadata, USER)?;
        let engine = EngineCall::of(metadata)?;
        let peer = request.extensions().get::<Arc<Peer>>();
        let user = match (peer.map(|peer| &peer.identity), said) {
            (Some(Identity::User { name, .. }), _) => name.clone(),
            (Some(identity @ Identity::Engine(_)), _) => identity.to_string(),
            (None, Some(user)) => user,
            (None, None) => request
                .remote_addr()
                .map_or_else(|| "unknown".to_owned(), |address| address.to_string()),
        };
        if let (Some(peer), Some(call)) = (peer, engine)
            && peer.identity != Identity::Engine(call.engine_id)
        {
            let words = format!(
                "the call says that it is engine {}'s, and the certificate shows {}: give the engine a certificate of its own \
                 (`engine-svc pki issue-engine`). Nothing was done",
                call.engine_id, peer.identity
            );
            return Err(Fault::new(FaultCode::NotPermitted, words));
        }
        Ok(Self {
            user,
            correlation_id: text(metadata, CORRELATION_ID)?,
            engine,
            traceparent: text(metadata, TRACEPARENT)?,
        })
    }
}

impl EngineCall {
    fn of(metadata: &MetadataMap) -> Result<Option<Self>, Fault> {
        let engine_id = parsed::<EngineId>(metadata, ENGINE_ID)?;
        let epoch = match text(metadata, ENGINE_EPOCH)? {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| wrong(ENGINE_EPOCH, "is not a number of 64 bits"))?,
            ),
        };
        let incarnation = parsed::<Incarnation>(metadata, ENGINE_INCARNATION)?;
        let store_id = parsed::<StoreId>(metadata, STORE_ID)?;
        match (engine_id, epoch) {
            (Some(engine_id), Some(epoch)) => Ok(Some(Self {
                engine_id,
                epoch,
                incarnation,
                store_id,
            })),
            (None, None) if store_id.is_none() && incarnation.is_none() => Ok(None),
            (None, _) => Err(wrong(
                ENGINE_ID,
                "is missing: an engine must send its id and its epoch",
            )),
            (Some(_), None) => Err(wrong(
                ENGINE_EPOCH,
                "is missing: an engine must send its id and its epoch",
            )),
        }
    }

    /// Puts it into the metadata of a call, with the correlation id if there is one.
    pub fn attach<T>(&self, request: &mut Request<T>, correlation_id: Option<&str>) {
        let metadata = request.metadata_mut();
        insert(metadata, ENGINE_ID, &self.engine_id.to_string());
        insert(metadata, ENGINE_EPOCH, &self.epoch.to_string());
        if let Some(incarnation) = self.incarnation {
            insert(metadata, ENGINE_INCARNATION, &incarnation.to_string());
        }
        if let Some(store_id) = self.store_id {
            insert(metadata, STORE_ID, &store_id.to_string());
        }
        if let Some(correlation_id) = correlation_id {
            insert(metadata, CORRELATION_ID, correlation_id);
        }
    }
}

fn insert(metadata: &mut MetadataMap, key: &'static str, value: &str) {
    // Values that are not ASCII are left out: ids always are, and a correlation id was checked when it was received.
    if let Ok(value) = value.parse() {
        metadata.insert(key, value);
    }
}

fn parsed<T: std::str::FromStr<Err = common::id::IdError>>(
    metadata: &MetadataMap,
    key: &'static str,
) -> Result<Option<T>, Fault> {
    match text(metadata, key)? {
        None => Ok(None),
        Some(text) => common::id::in_any_case(&text)
            .map(Some)
            .map_err(|error| wrong(key, error)),
    }
}

fn text(metadata: &MetadataMap, key: &'static str) -> Result<Option<String>, Fault> {
    let mut values = metadata.get_all(key).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    // A proxy and this service might choose different ones.
    if values.next().is_some() {
        return Err(wrong(key, "is given more than once"));
    }
    let text = value.to_str().map_err(|_| wrong(key, "is not printable ASCII"))?;
    if text.is_empty() || text.len() > MAX_CHARS {
        let length = text.len();
        return Err(wrong(
            key,
            format!("has {length} characters; expected 1 to {MAX_CHARS}"),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(wrong(key, "holds a control character"));
    }
    Ok(Some(text.to_owned()))
}

fn wrong(key: &str, what: impl fmt::Display) -> Fault {
    Fault::invalid(format!("metadata.{key}"), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    fn request(pairs: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        for (key, value) in pairs {
            request.metadata_mut().insert(*key, value.parse().unwrap());
        }
        request
    }

    #[test]
    fn an_engine_reads_back_as_it_was_attached() {
        for (incarnation, store_id) in [
            (None, None),
            (Some(ID.parse().unwrap()), Some(ID.parse().unwrap())),
        ] {
            let call = EngineCall {
                engine_id: ID.parse().unwrap(),
                epoch: u64::MAX,
                incarnation,
                store_id,
            };
            let mut request = request(&[("x-user", "alice"), ("traceparent", "00-aa-bb-01")]);
            call.attach(&mut request, Some("nightly-7"));
            let caller = Caller::of(&request).unwrap();
            assert_eq!(caller.engine, Some(call));
            assert_eq!(caller.user, "alice");
            assert_eq!(caller.correlation_id.as_deref(), Some("nightly-7"));
            assert_eq!(caller.traceparent.as_deref(), Some("00-aa-bb-01"));
        }
    }

    #[test]
    fn who_says_nothing_is_no_engine() {
        let caller = Caller::of(&request(&[])).unwrap();
        assert_eq!((caller.user.as_str(), caller.engine), ("unknown", None));
    }

    #[test]
    fn what_is_given_twice_is_refused_be_it_the_same() {
        for key in [USER, CORRELATION_ID, ENGINE_ID, ENGINE_EPOCH, TRACEPARENT] {
            let mut request = request(&[]);
            for _ in 0..2 {
                request.metadata_mut().append(key, "1".parse().unwrap());
            }
            let fault = Caller::of(&request).unwrap_err();
            assert_eq!(fault.subject, format!("metadata.{key}"));
            assert!(fault.message.contains("more than once"), "{}", fault.message);
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        let long = "x".repeat(256);
        let cases: [(&str, &[(&'static str, &str)]); 11] = [
            (
                "metadata.x-engine-id",
                &[("x-engine-id", "7"), ("x-engine-epoch", "1")],
            ),
            ("metadata.x-engine-id", &[("x-engine-epoch", "1")]),
            ("metadata.x-engine-id", &[("x-store-id", ID)]),
            ("metadata.x-engine-epoch", &[("x-engine-id", ID)]),
            (
                "metadata.x-engine-epoch",
                &[("x-engine-id", ID), ("x-engine-epoch", "-1")],
            ),
            (
                "metadata.x-store-id",
                &[("x-engine-id", ID), ("x-engine-epoch", "1"), ("x-store-id", "x")],
            ),
            ("metadata.x-engine-id", &[("x-engine-incarnation", ID)]),
            (
                "metadata.x-engine-incarnation",
                &[
                    ("x-engine-id", ID),
                    ("x-engine-epoch", "1"),
                    ("x-engine-incarnation", "x"),
                ],
            ),
            ("metadata.x-user", &[("x-user", &long)]),
            ("metadata.x-user", &[("x-user", "")]),
            ("metadata.x-correlation-id", &[("x-correlation-id", "a\tb")]),
        ];
        for (field, pairs) in cases {
            assert_eq!(
                Caller::of(&request(pairs)).unwrap_err().subject,
                field,
                "{pairs:?}"
            );
        }
    }
}
