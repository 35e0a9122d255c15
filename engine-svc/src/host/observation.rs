//! What the storage of a host shows of a disk.

use common::fault::FaultCode;
use common::id::{DiskId, DomainId};
use engine_core::model::Presence;
use proto::host::v1::storage_service_client::StorageServiceClient;
use proto::host::v1::{GetImageRequest, GetImageResponse, Legality, Volume};
use runtime::status;
use tonic::Status;
use tonic::transport::Channel;

/// Looks at a disk on storage and returns its presence with an explanation; none if storage cannot tell.
///
/// # Errors
/// The host's status, if it says nothing about storage.
pub(super) async fn observe(
    channel: Channel,
    disk_id: DiskId,
    domain_id: DomainId,
) -> Result<Option<(Presence, String)>, Status> {
    let mut storage = StorageServiceClient::new(channel);
    let image = get_image(&mut storage, domain_id.to_string(), disk_id.image().to_string()).await?;
    Ok(presence(image))
}

fn presence(image: Seen<GetImageResponse>) -> Option<(Presence, String)> {
    let answer = match image {
        Seen::Unreadable => return None,
        Seen::Absent => return Some((Presence::Absent, String::new())),
        Seen::There(answer) => answer,
    };
    let leftovers = answer.leftovers.join(", ");
    let Some(image) = answer.image else {
        return Some(match leftovers.as_str() {
            "" => (Presence::Absent, String::new()),
            _ => (Presence::Partial, format!("renamed, not purged: {leftovers}")),
        });
    };
    // The image has more volumes than the engine ever makes: nothing can be said about those that are not shown.
    if !answer.next_page_token.is_empty() {
        return None;
    }
    let whole = |volume: &Volume| volume.fault.is_none() && volume.legality == i32::from(Legality::Legal);
    let broken = image.volumes.iter().find(|volume| !whole(volume));
    Some(match (image.fault, broken) {
        (Some(fault), _) => (Presence::Partial, fault.message),
        (None, Some(volume)) => (
            Presence::Partial,
            format!("volume {} is not LEGAL", volume.volume_id),
        ),
        (None, None) if !leftovers.is_empty() => (Presence::Partial, format!("leftovers: {leftovers}")),
        (None, None) => (Presence::Whole, String::new()),
    })
}

/// The result of a read: the thing, its absence, or that storage cannot tell.
#[derive(Debug, PartialEq)]
enum Seen<T> {
    There(T),
    Absent,
    Unreadable,
}

/// Reads an image with its volumes.
///
/// # Errors
/// The host's status, if it says nothing about storage.
async fn get_image(
    storage: &mut StorageServiceClient<Channel>,
    domain_id: String,
    image_id: String,
) -> Result<Seen<GetImageResponse>, Status> {
    let answer = storage.get_image(GetImageRequest { domain_id, image_id }).await;
    seen(
        answer.map(tonic::Response::into_inner),
        &[FaultCode::ImageNotFound],
    )
}

/// A fault about storage is an answer; any other refusal is none. A missing domain proves nothing: it may not be
/// mounted.
fn seen<T>(answer: Result<T, Status>, absent: &[FaultCode]) -> Result<Seen<T>, Status> {
    let refusal = match answer {
        Ok(thing) => return Ok(Seen::There(thing)),
        Err(refusal) => refusal,
    };
    match status::fault_of(&refusal) {
        Some((fault, _)) if absent.contains(&fault.code) => Ok(Seen::Absent),
        Some((fault, _)) if !fault.code.repeat_may_help() => Ok(Seen::Unreadable),
        _ => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use common::Fault;

    use super::*;

    #[test]
    fn a_missing_domain_proves_nothing() {
        let missing = Fault::new(FaultCode::DomainNotFound, "no such domain");
        let seen = seen::<()>(Err(status::from_fault(&missing)), &[FaultCode::ImageNotFound]).unwrap();
        assert!(matches!(seen, Seen::Unreadable));
        assert!(super::seen::<()>(Err(Status::unavailable("away")), &[]).is_err());
    }
}
