//! Storage domains: table `domain`, the domain's id → `StorageDomainRecord`.

use engine_core::model::Domain;
use proto::engine::v1 as wire;
use proto::store::v1::StorageDomainRecord;
use store::Table;

use super::codec::{self, CodecError};
use super::keyed::Keyed;

/// The table of storage domains.
pub(crate) const DOMAINS: Keyed<StorageDomainRecord> = Keyed::new(Table("domain"));

/// The record of a storage domain.
pub(super) fn record(domain: &Domain) -> StorageDomainRecord {
    StorageDomainRecord {
        domain: Some(wire::StorageDomain {
            domain_id: domain.id.to_string(),
            name: domain.name.clone(),
            host_id: domain.host_id.to_string(),
            held_by: Vec::new(),
            held_by_left_out: 0,
        }),
    }
}

/// Reads a record back.
///
/// # Errors
/// [`CodecError`] for a record that [`record`] did not write.
pub(super) fn read_record(record: StorageDomainRecord) -> Result<Domain, CodecError> {
    let domain = codec::required("domain", record.domain)?;
    Ok(Domain {
        id: codec::id("domain_id", &domain.domain_id)?,
        name: domain.name,
        host_id: codec::id("host_id", &domain.host_id)?,
    })
}
