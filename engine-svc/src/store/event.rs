//! Events: table `event`, the event's number → `vdsm_engine.engine.v1.Event`. Written once, never read back by the engine.

use std::ops::Bound;

use bytes::Bytes;
use engine_core::model::{Event, Severity};
use proto::engine::v1 as wire;
use store::{Order, Reader, StoreError, Table, Write};

use super::codec;
use super::key;
use super::scan::{Scan, write};

/// The table of events.
const EVENTS: Table = Table("event");

/// An event as it is shown.
pub(crate) fn show(event: &Event) -> wire::Event {
    let severity = match event.severity {
        Severity::Info => wire::Severity::Info,
        Severity::Warning => wire::Severity::Warning,
        Severity::Error => wire::Severity::Error,
        Severity::Alert => wire::Severity::Alert,
    };
    wire::Event {
        event_id: event.id,
        time: codec::time(event.time),
        severity: severity.into(),
        code: event.code.as_str().to_owned(),
        message: event.message.to_string(),
        entities: event.entities.iter().map(codec::entity).collect(),
        command_id: codec::text(event.command),
        root_command_id: codec::text(event.root),
        user: event.user.clone(),
        correlation_id: event.correlation_id.clone(),
        kind: wire::EventKind::Unspecified.into(),
        audit: None,
    }
}

/// The write of an event; `shown` is its shown form, encoded.
pub(super) fn put(event: &Event, shown: &Bytes) -> Write {
    write(EVENTS, key::sequence(event.id), Some(shown.to_vec()))
}

/// The events before the key `before` (none: from the newest), newest first.
///
/// # Errors
/// [`StoreError`] if they cannot be read.
pub(crate) fn newest(
    reader: &dyn Reader,
    before: Option<&[u8]>,
    limit: usize,
) -> Result<Scan<wire::Event>, StoreError> {
    let range = (Bound::Unbounded, before.map_or(Bound::Unbounded, Bound::Excluded));
    let pairs = reader.scan(EVENTS, range, Order::Descending, limit)?;
    Ok(Scan::of(EVENTS, pairs, limit))
}

/// The number of the last event; 0 if there is none.
///
/// # Errors
/// [`StoreError`] if it cannot be read.
pub(super) fn last_id(reader: &dyn Reader) -> Result<u64, StoreError> {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let newest = reader.scan(EVENTS, everything, Order::Descending, 1)?;
    Ok(newest
        .first()
        .and_then(|(key, _)| key::read_sequence(key))
        .unwrap_or(0))
}
