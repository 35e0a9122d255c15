//! What storage shows, in its form on the wire.

use std::str::FromStr;

use common::fault::{Fault, FaultCode};
use common::id::{DomainId, ImageId, VolumeId};
use common::time::Timestamp;
use common::words::{LISTED, Label, Words};
use proto::convert;
use proto::host::v1 as wire;
use runtime::page;
use vdsm_storage::domain::{DirectIo, Domain, DomainInfo, ImageName};
use vdsm_storage::volume::{Legality, Role, VolumeInfo, chain};
use vdsm_storage::{ListedDomain, StorageRoot};

use super::host_service::left_out;

/// The maximum number of a chain's volumes that are shown: more than any chain that VDSM makes.
const CHAIN: usize = 1_000;

/// The number of volumes whose metadata is read for a page of images: as many as a page of volumes has. The page ends
/// with the image that reaches this number.
const READ_FOR_PAGE: usize = page::MAX_SIZE;

/// The maximum number of volumes read for one image: its chain is known only once all of them are read. Ten times the
/// longest chain that is shown completely.
const READ_FOR_IMAGE: usize = 10 * CHAIN;

pub(super) fn domain(info: &DomainInfo) -> wire::StorageDomain {
    wire::StorageDomain {
        domain_id: info.id.to_string(),
        name: info.name.to_string(),
        r#type: info.kind.to_string(),
        domain_class: info.class.to_string(),
        role: info.role.to_string(),
        version: info.version,
        pool_ids: info.pools.iter().take(LISTED).map(ToString::to_string).collect(),
        block_size_bytes: info.block_size_bytes,
        alignment_bytes: info.alignment_bytes,
        remote_path: info.remote_path.to_string(),
        total_bytes: bytes(info.total_bytes),
        free_bytes: bytes(info.free_bytes),
        read_only_reason: info.read_only.clone().unwrap_or_default().into(),
        direct_io: match info.direct_io {
            DirectIo::Steps(_) => true,
            DirectIo::Unsupported => false,
        },
        leftovers: info.leftovers.iter().take(LISTED).cloned().collect(),
        leftovers_left_out: left_out(info.leftovers.len()),
        fault: None,
    }
}

/// A domain in a list: a damaged domain is listed too, with its fault.
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

/// A page of the domains.
pub(super) fn domains(
    root: &StorageRoot,
    paging: &Paging,
) -> Result<wire::ListStorageDomainsResponse, Fault> {
    let after: Option<DomainId> = paging.after()?;
    let ids = root.domain_ids()?.into_iter();
    let ids = ids.filter(|id| after.is_none_or(|after| *id > after));
    let (domains, next) = page::fill(paging.size, ids, |id| listed_domain(&root.listed(*id)));
    Ok(wire::ListStorageDomainsResponse {
        domains,
        next_page_token: paging.next(next),
    })
}

/// A page of a domain's images, without their volumes. An image's chain is read from all its volumes, so the page is
/// shorter than requested if images have many.
pub(super) fn images(
    root: &StorageRoot,
    domain: DomainId,
    paging: &Paging,
) -> Result<wire::ListImagesResponse, Fault> {
    let opened = root.domain(domain)?;
    let after: Option<ImageName> = paging.after()?;
    let names = opened.image_names()?.into_iter();
    let names = names.filter(|name| after.as_ref().is_none_or(|after| name > after));
    let (images, next) = page::fill_within(paging.size, READ_FOR_PAGE, names, |name| match name {
        ImageName::Leftover { name, image } => {
            let leftover = name.clone();
            let image = bare(domain, *image);
            (wire::Image { leftover, ..image }, 0)
        }
        ImageName::Image(image) => listed_image(&opened, domain, *image),
    });
    Ok(wire::ListImagesResponse {
        images,
        next_page_token: paging.next(next),
    })
}

/// An image in a list, and the number of volumes read for it.
fn listed_image(opened: &Domain, domain: DomainId, image: ImageId) -> (wire::Image, usize) {
    let faulty = |fault: &Fault| wire::Image {
        fault: Some(convert::fault_to_wire(fault)),
        ..bare(domain, image)
    };
    let listing = match opened.volume_listing(image) {
        Ok(listing) => listing,
        Err(fault) => return (faulty(&fault), 0),
    };
    let count = listing.ids().count();
    if count > READ_FOR_IMAGE {
        return (faulty(&too_many(count)), 0);
    }
    let volumes: Vec<_> = listing.ids().map(|id| listing.describe(id)).collect();
    (with_chain(bare(domain, image), &volumes), count)
}

/// A page of an image's volumes.
pub(super) fn volumes(
    root: &StorageRoot,
    domain: DomainId,
    image: ImageId,
    paging: &Paging,
) -> Result<wire::ListVolumesResponse, Fault> {
    let after: Option<VolumeId> = paging.after()?;
    let listing = root.domain(domain)?.volume_listing(image)?;
    let ids = listing.ids().filter(|id| after.is_none_or(|after| *id > after));
    let (volumes, next) = page::fill(paging.size, ids, |id| volume(domain, &listing.describe(*id)));
    Ok(wire::ListVolumesResponse {
        volumes,
        next_page_token: paging.next(next),
    })
}

/// Which page is requested. A position is the name of the last item.
#[derive(Debug, Clone)]
pub(super) struct Paging {
    size: usize,
    after: Vec<u8>,
    list: page::List,
}

impl Paging {
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(super) fn read(list: page::List, page_size: i32, page_token: &str) -> Result<Self, Fault> {
        Ok(Self {
            size: page::size(page_size)?,
            after: list.position(page_token)?,
            list,
        })
    }

    /// The token of the next page; empty if there is none.
    fn next(&self, last: Option<impl std::fmt::Display>) -> String {
        let token = |last: &dyn std::fmt::Display| self.list.token(last.to_string().as_bytes());
        last.map(|last| token(&last)).unwrap_or_default()
    }

    fn after<T: FromStr>(&self) -> Result<Option<T>, Fault> {
        if self.after.is_empty() {
            return Ok(None);
        }
        let name = str::from_utf8(&self.after)
            .ok()
            .and_then(|name| name.parse().ok());
        name.map(Some).ok_or_else(|| {
            Fault::invalid(
                "page_token",
                "is not one that this list returned; leave it empty to start at the beginning",
            )
        })
    }
}

/// One image with its volumes and the leftovers of its deletions.
pub(super) fn image(
    root: &StorageRoot,
    domain: DomainId,
    id: ImageId,
) -> Result<wire::GetImageResponse, Fault> {
    let opened = root.domain(domain)?;
    let mut next = None;
    let leftovers: Vec<String> = opened
        .image_names()?
        .into_iter()
        .filter_map(|name| match name {
            ImageName::Leftover { name, image } if image == id => Some(name),
            ImageName::Leftover { .. } | ImageName::Image(_) => None,
        })
        .take(LISTED)
        .collect();
    let image = match opened.volumes(id) {
        Ok(volumes) => {
            let (shown, last) = page::fill(page::MAX_SIZE, &volumes, |info| volume(domain, info));
            next = last.map(|info| volumes_of(domain, id).token(info.id.to_string().as_bytes()));
            Some(wire::Image {
                volumes: shown,
                ..with_chain(bare(domain, id), &volumes)
            })
        }
        Err(fault) if fault.code == FaultCode::ImageNotFound && !leftovers.is_empty() => None,
        Err(fault) => return Err(fault),
    };
    Ok(wire::GetImageResponse {
        image,
        leftovers,
        next_page_token: next.unwrap_or_default(),
    })
}

/// The list of an image's volumes, for any spelling of the ids: GetImage answers with a token of this list, too.
pub(super) fn volumes_of(domain: DomainId, image: ImageId) -> page::List {
    page::List::of(&wire::ListVolumesRequest {
        domain_id: domain.to_string(),
        image_id: image.to_string(),
        ..wire::ListVolumesRequest::default()
    })
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
        disk_type: Label::from(&meta.disk_type).into(),
        capacity_bytes: meta.capacity_bytes,
        description: Words::from(&meta.description).into(),
        legality: legality(meta.legality).into(),
        generation: meta.generation,
        sequence: meta.sequence,
        remarks: info
            .remarks
            .iter()
            .take(LISTED)
            .map(ToString::to_string)
            .collect(),
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
            chain: chain.iter().take(CHAIN).map(ToString::to_string).collect(),
            fault: too_long(&chain).as_ref().map(convert::fault_to_wire),
            ..image
        },
        Err(fault) => wire::Image {
            fault: Some(convert::fault_to_wire(&fault)),
            ..image
        },
    }
}

fn too_long(chain: &[VolumeId]) -> Option<Fault> {
    (chain.len() > CHAIN).then(|| {
        let words = format!(
            "the chain has {} volumes, of which the first {CHAIN} are shown; ListVolumes returns all of them",
            chain.len()
        );
        Fault::new(FaultCode::VolumeInChain, words)
    })
}

fn too_many(volumes: usize) -> Fault {
    let words = format!(
        "the image has {volumes} volumes; its chain is not shown because it has more than {READ_FOR_IMAGE}; ListVolumes returns all of them"
    );
    Fault::new(FaultCode::VolumeInChain, words)
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
