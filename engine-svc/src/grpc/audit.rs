//! Entries of the audit log, as events.

use std::io;

use common::fault::{Fault, FaultCode};
use proto::engine::v1::{AuditEntry, EntityKind, EntityRef, Event, EventKind, Severity};
use runtime::audit::{Line, Trail};
use runtime::page::{self, Page};

use super::filter::EventFilter;
use super::list::Listed;

/// The maximum number of lines read for one page.
const READ: usize = 2 * page::MAX_SIZE;

/// What reading a piece costs besides its lines: a piece may have none.
const PIECE: usize = 20;

/// A page of the entries that the filter selects, newest first.
///
/// # Errors
/// `AUDIT_LOG_OFF`; `STORE_UNAVAILABLE` if the files cannot be read.
pub(super) async fn list(
    trail: Option<&Trail>,
    filter: EventFilter,
    size: usize,
    before: Vec<u8>,
) -> Result<Listed<Event>, Fault> {
    let off = "this engine keeps no audit log: start it with --audit-log FILE";
    let trail = trail.ok_or_else(|| Fault::new(FaultCode::AuditLogOff, off).about("filter.kind"))?;
    let listed = trail.read(move |trail| page(trail, &filter, size, &before)).await;
    listed.map_err(|error| {
        let words = format!("the audit log cannot be read: {error}");
        Fault::new(FaultCode::StoreUnavailable, words)
    })
}

fn page(trail: &Trail, filter: &EventFilter, size: usize, before: &[u8]) -> io::Result<Listed<Event>> {
    let mut page = Page::of(size);
    let mut at = Some(before.to_vec()).filter(|key| !key.is_empty());
    let mut read = 0;
    loop {
        let piece = trail.before(at.as_deref())?;
        read += PIECE;
        for (key, line) in piece.lines {
            read += 1;
            let event = event(&line).filter(|event| filter.selects(event));
            if !event.is_none_or(|event| page.take(event)) {
                return Ok((page.into_items(), at));
            }
            at = Some(key);
            if page.is_full() || read >= READ {
                return Ok((page.into_items(), at));
            }
        }
        at = piece.next;
        if at.is_none() || read >= READ {
            return Ok((page.into_items(), at));
        }
    }
}

/// The event of a line; none if it is no line of ours.
fn event(line: &Line) -> Option<Event> {
    let text = |name: &str| line.text(name).to_owned();
    let outcome = line.text("outcome");
    let severity = match outcome {
        "accepted" | "repeated" | "planned" => Severity::Info,
        "lost" => Severity::Error,
        _ => Severity::Warning,
    };
    let (rpc, command, entity) = (text("rpc"), text("command_id"), text("entity"));
    let missing = line.missing();
    let what = match (rpc.rsplit('/').next().unwrap_or_default(), missing) {
        ("", 0) => "a handshake".to_owned(),
        (_, 1..) => format!("{missing} entries"),
        (method, _) => [method, &entity].join(" ").trim_end().to_owned(),
    };
    let message = match text("message").as_str() {
        "" => what,
        words => format!("{what}: {words}"),
    };
    Some(Event {
        event_id: 0,
        time: Some(line.text("time").parse().ok()?),
        severity: severity.into(),
        code: format!("CALL_{}", outcome.to_uppercase()),
        message,
        entities: entity_ref(&entity).into_iter().collect(),
        command_id: command.clone(),
        root_command_id: command,
        user: text("user"),
        correlation_id: text("correlation_id"),
        kind: EventKind::Audit.into(),
        audit: Some(AuditEntry {
            rpc,
            role: text("role"),
            peer: text("peer"),
            entity,
            fault_code: text("code"),
            subject: text("subject"),
            missing,
        }),
    })
}

/// The entity of a call, from the text that names it in the line.
fn entity_ref(text: &str) -> Option<EntityRef> {
    let (kind, id) = text.rsplit_once(' ')?;
    let kind = match kind {
        "host" => EntityKind::Host,
        "storage domain" => EntityKind::StorageDomain,
        "disk" => EntityKind::Disk,
        "VM" => EntityKind::Vm,
        _ => return None,
    };
    Some(EntityRef {
        kind: kind.into(),
        id: id.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use common::id::{DiskId, DomainId, HostId, VmId};
    use engine_core::model::EntityKey;

    use super::*;

    /// A line names an entity as the core does.
    #[test]
    fn an_entity_reads_back_from_its_line() {
        let id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
        for (key, kind) in [
            (EntityKey::Host(id.parse::<HostId>().unwrap()), EntityKind::Host),
            (
                EntityKey::Domain(id.parse::<DomainId>().unwrap()),
                EntityKind::StorageDomain,
            ),
            (EntityKey::Disk(id.parse::<DiskId>().unwrap()), EntityKind::Disk),
            (EntityKey::Vm(id.parse::<VmId>().unwrap()), EntityKind::Vm),
        ] {
            let read = entity_ref(&key.to_string()).unwrap();
            assert_eq!((read.kind(), read.id.as_str()), (kind, id));
        }
        assert_eq!(entity_ref(""), None);
    }
}
