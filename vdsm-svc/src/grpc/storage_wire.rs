//! What storage shows, on the wire.

use common::fault::{Fault, FaultCode};
use common::id::{DomainId, ImageId};
use common::time::Timestamp;
use proto::convert;
use proto::host::v1 as wire;
use vdsm_storage::domain::{DirectIo, DomainInfo, ImageName};
use vdsm_storage::volume::{Legality, Role, VolumeInfo, chain};
use vdsm_storage::{ListedDomain, StorageRoot};

pub(super) fn domain(info: &DomainInfo) -> wire::StorageDomain {
    wire::StorageDomain {
        domain_id: info.id.to_string(),
        name: info.name.clone(),
        r#type: info.kind.clone(),
        domain_class: info.class.clone(),
        role: info.role.clone(),
        version: info.version,
        pool_ids: info.pools.clone(),
        block_size_bytes: info.block_size_bytes,
        alignment_bytes: info.alignment_bytes,
        remote_path: info.remote_path.clone(),
        total_bytes: bytes(info.total_bytes),
        free_bytes: bytes(info.free_bytes),
        read_only_reason: info.read_only.clone().unwrap_or_default(),
        direct_io: match info.direct_io {
            DirectIo::Steps(_) => true,
            DirectIo::Unsupported => false,
        },
        leftovers: info.leftovers.clone(),
        fault: None,
    }
}

/// A domain of a list: one that is damaged is there too, with its fault.
pub(super) fn listed_domain(listed: &ListedDomain) -> wire::StorageDomain {
    match &listed.info {
        Ok(info) => domain(info),
        Err(fault) => wire::StorageDomain {
            domain_id: listed.id.to_string(),
            fault: Some(convert::fault_to_wire(fault)),
            ..wire::StorageDomain::default()
        },
    }
}

/// The images of a domain, without their volumes.
pub(super) fn images(root: &StorageRoot, domain: DomainId) -> Result<Vec<wire::Image>, Fault> {
    let opened = root.domain(domain)?;
    let found = opened.image_names()?;
    Ok(found
        .into_iter()
        .map(|name| match name {
            ImageName::Leftover { name, image } => wire::Image {
                leftover: name,
                ..bare(domain, image)
            },
            ImageName::Image(image) => match opened.volumes(image) {
                Ok(volumes) => with_chain(bare(domain, image), &volumes),
                Err(fault) => wire::Image {
                    fault: Some(convert::fault_to_wire(&fault)),
                    ..bare(domain, image)
                },
            },
        })
        .collect())
}

/// One image with its volumes, and what is left of its deletions.
pub(super) fn image(
    root: &StorageRoot,
    domain: DomainId,
    id: ImageId,
) -> Result<wire::GetImageResponse, Fault> {
    let opened = root.domain(domain)?;
    let leftovers: Vec<String> = opened
        .image_names()?
        .into_iter()
        .filter_map(|name| match name {
            ImageName::Leftover { name, image } if image == id => Some(name),
            ImageName::Leftover { .. } | ImageName::Image(_) => None,
        })
        .collect();
    let image = match opened.volumes(id) {
        Ok(volumes) => Some(wire::Image {
            volumes: volumes.iter().map(|info| volume(domain, info)).collect(),
            ..with_chain(bare(domain, id), &volumes)
        }),
        Err(fault) if fault.code == FaultCode::ImageNotFound && !leftovers.is_empty() => None,
        Err(fault) => return Err(fault),
    };
    Ok(wire::GetImageResponse { image, leftovers })
}

pub(super) fn volume(domain: DomainId, info: &VolumeInfo) -> wire::Volume {
    let bare = wire::Volume {
        volume_id: info.id.to_string(),
        image_id: info.seen_in.to_string(),
        domain_id: domain.to_string(),
        status: info.status.as_str().to_owned(),
        fault: info.fault.as_ref().map(convert::fault_to_wire),
        apparent_size_bytes: bytes(info.apparent_size_bytes),
        true_size_bytes: bytes(info.true_size_bytes),
        ..wire::Volume::default()
    };
    let Some(meta) = &info.meta else { return bare };
    wire::Volume {
        image_id: meta.image.to_string(),
        parent_id: meta.parent.map(|id| id.to_string()).unwrap_or_default(),
        format: convert::format_to_wire(meta.format).into(),
        allocation: convert::allocation_to_wire(meta.allocation).into(),
        role: role(meta.role).into(),
        disk_type: meta.disk_type.clone(),
        capacity_bytes: meta.capacity_bytes,
        description: meta.description.clone(),
        legality: legality(meta.legality).into(),
        generation: meta.generation,
        sequence: meta.sequence,
        remarks: info.remarks.clone(),
        create_time: Some(convert::timestamp(Timestamp(
            meta.created_s.saturating_mul(1_000_000),
        ))),
        ..bare
    }
}

fn bare(domain: DomainId, image: ImageId) -> wire::Image {
    wire::Image {
        image_id: image.to_string(),
        domain_id: domain.to_string(),
        ..wire::Image::default()
    }
}

fn with_chain(image: wire::Image, volumes: &[VolumeInfo]) -> wire::Image {
    match chain(volumes) {
        Ok(chain) => wire::Image {
            chain: chain.iter().map(ToString::to_string).collect(),
            ..image
        },
        Err(fault) => wire::Image {
            fault: Some(convert::fault_to_wire(&fault)),
            ..image
        },
    }
}

const fn role(role: Role) -> wire::VolumeRole {
    match role {
        Role::Shared => wire::VolumeRole::Shared,
        Role::Internal => wire::VolumeRole::Internal,
        Role::Leaf => wire::VolumeRole::Leaf,
    }
}

const fn legality(legality: Legality) -> wire::Legality {
    match legality {
        Legality::Legal => wire::Legality::Legal,
        Legality::Illegal => wire::Legality::Illegal,
        Legality::Fake => wire::Legality::Fake,
    }
}

fn bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
