//! Hosts: table `host`, the host's id → `HostRecord`.

use common::fault::Fault;
use common::id::HostId;
use common::revision::{Start, Token};
use engine_core::model::{Host, OtherLife};
use proto::convert;
use proto::engine::v1 as wire;
use proto::store::v1::HostRecord;
use store::{Reader, StoreError, Table};

use super::codec::{self, CodecError};
use super::keyed::Keyed;
use super::{Log, read};

/// The table of hosts.
pub(crate) const HOSTS: Keyed<HostRecord> = Keyed::new(Table("host"));

/// The record of a host, without the values that are known only at reading.
pub(super) fn record(host: &Host) -> HostRecord {
    HostRecord {
        host: Some(wire::Host {
            host_id: host.id.to_string(),
            name: host.name.clone(),
            address: host.address.clone(),
            identity: host.identity.clone(),
            store_id: codec::text(host.store_id),
            cursor: codec::text(host.cursor),
            ..wire::Host::default()
        }),
        start: host.start.map(|start| start.0),
        has_risen: host.has_risen,
        other_life: (host.other_life.as_ref()).map(|other| convert::fault_to_wire(&other.fault)),
        other_owner: host.other_owner.as_ref().map(convert::fault_to_wire),
        other_life_unproven: host.other_life.as_ref().is_some_and(|other| !other.is_proven),
    }
}

/// Reads a record back.
///
/// # Errors
/// [`CodecError`] for a record that [`record`] did not write.
pub(super) fn read_record(record: HostRecord) -> Result<Host, CodecError> {
    let (start, has_risen) = (record.start.map(Start), record.has_risen);
    let other_life = record.other_life.as_ref().map(|fault| OtherLife {
        fault: convert::fault_from_wire(fault),
        is_proven: !record.other_life_unproven,
    });
    let other_owner = record.other_owner.as_ref().map(convert::fault_from_wire);
    let host = codec::required("host", record.host)?;
    Ok(Host {
        id: codec::id("host_id", &host.host_id)?,
        name: host.name,
        address: host.address,
        identity: host.identity,
        store_id: codec::optional_id("store_id", &host.store_id)?,
        start,
        cursor: codec::token("cursor", &host.cursor)?,
        has_risen,
        other_life,
        other_owner,
    })
}

/// The committed state that a connection to a host begins with.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// The point up to which the engine has followed the host; none if the next stream starts with a snapshot.
    pub(crate) followed: Option<Token>,
    /// The host's refusal, if it said that another engine had it.
    pub(crate) other_owner: Option<Fault>,
}

/// Reads the committed state that a connection to a host begins with.
///
/// # Errors
/// [`StoreError`] if it cannot be read.
pub(crate) async fn before(log: &Log, host_id: HostId) -> Result<Before, StoreError> {
    read::on(log, move |reader: &dyn Reader| {
        let record = HOSTS.get(reader, host_id.as_bytes())?.unwrap_or_default();
        let cursor = record.host.map(|host| host.cursor).unwrap_or_default();
        Ok(Before {
            followed: cursor.parse().ok(),
            other_owner: record.other_owner.as_ref().map(convert::fault_from_wire),
        })
    })
    .await
}

/// The committed point up to which the engine has followed a host; none if the next stream starts with a snapshot.
///
/// # Errors
/// [`StoreError`] if it cannot be read.
pub(crate) async fn cursor(log: &Log, host_id: HostId) -> Result<Option<Token>, StoreError> {
    Ok(before(log, host_id).await?.followed)
}
