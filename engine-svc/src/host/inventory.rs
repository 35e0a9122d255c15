//! Lists everything on a host's storage.

use std::collections::{BTreeMap, BTreeSet};

use common::id::{DomainId, ImageId};
use engine_core::input::Inventory;
use proto::host::v1::storage_service_client::StorageServiceClient;
use proto::host::v1::{ListImagesRequest, ListStorageDomainsRequest};
use runtime::status;
use tonic::Status;
use tonic::transport::Channel;

use super::pages::{Pages, ReadError};

/// The number of items on a page. Each page is a separate read on the host, so others have their turn in between.
const PAGE: i32 = 500;

/// The maximum numbers of images, of 16 bytes each, and of storage domains that are read. Nothing is reported about
/// the rest.
const MAX_IMAGES: usize = 500_000;
const MAX_DOMAINS: usize = 1_000;

/// Reads all pages.
///
/// # Errors
/// The host's status, if it says nothing about storage; a list that does not end.
pub(super) async fn take(channel: Channel) -> Result<Inventory, ReadError> {
    let mut storage = StorageServiceClient::new(channel);
    let mut images = BTreeMap::new();
    let mut room = MAX_IMAGES;
    for domain_id in domains(&mut storage).await? {
        let found = images_of(&mut storage, domain_id, room).await?;
        room -= found.as_ref().map_or(0, BTreeSet::len);
        images.insert(domain_id, found);
    }
    Ok(Inventory { images })
}

async fn domains(storage: &mut StorageServiceClient<Channel>) -> Result<Vec<DomainId>, ReadError> {
    let mut found = Vec::new();
    let mut pages = Pages::of("ListStorageDomains");
    loop {
        let request = ListStorageDomainsRequest {
            page_size: PAGE,
            page_token: pages.token(),
        };
        let page = storage.list_storage_domains(request).await?.into_inner();
        // The engine cannot ask about a domain without an id.
        found.extend(
            page.domains
                .iter()
                .filter_map(|domain| domain.domain_id.parse::<DomainId>().ok()),
        );
        if found.len() >= MAX_DOMAINS || !pages.go_on(page.domains.len(), page.next_page_token)? {
            found.truncate(MAX_DOMAINS);
            return Ok(found);
        }
    }
}

/// The images of a domain; none if they cannot be read completely, or are more than there is `room` for.
async fn images_of(
    storage: &mut StorageServiceClient<Channel>,
    domain_id: DomainId,
    room: usize,
) -> Result<Option<BTreeSet<ImageId>>, ReadError> {
    let mut found = BTreeSet::new();
    let mut pages = Pages::of("ListImages");
    loop {
        let request = ListImagesRequest {
            domain_id: domain_id.to_string(),
            page_size: PAGE,
            page_token: pages.token(),
        };
        let page = match storage.list_images(request).await {
            Ok(page) => page.into_inner(),
            Err(refusal) if is_about_storage(&refusal) => return Ok(None),
            Err(refusal) => return Err(refusal.into()),
        };
        let whole = page.images.iter().filter(|image| image.leftover.is_empty());
        found.extend(whole.filter_map(|image| image.image_id.parse::<ImageId>().ok()));
        if found.len() > room {
            return Ok(None);
        }
        if !pages.go_on(page.images.len(), page.next_page_token)? {
            return Ok(Some(found));
        }
    }
}

/// Whether the refusal is about storage: a damaged domain, or one that is gone by now, says nothing about its images.
fn is_about_storage(refusal: &Status) -> bool {
    status::fault_of(refusal).is_some_and(|(fault, _)| !fault.code.repeat_may_help())
}
