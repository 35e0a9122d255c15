//! What the storage of a host shows of an operation, for a task whose host has lost its memory.
//!
//! Read-only. Who is not sure says so: `Unknown` leaves the decision to an operator.

use common::fault::FaultCode;
use common::id::{DiskId, DomainId, ImageId, VolumeId};
use common::operation::{DeleteImage, Operation};
use engine_core::input::Evidence;
use engine_core::model::Presence;
use proto::vdsm::v1::storage_service_client::StorageServiceClient;
use proto::vdsm::v1::{GetImageRequest, GetImageResponse, GetVolumeRequest, Legality, Volume};
use runtime::status;
use tonic::Status;
use tonic::transport::Channel;

/// Looks at what `operation` would have touched.
///
/// # Errors
/// The host's status, where it says nothing about storage.
pub(super) async fn look(channel: Channel, operation: &Operation) -> Result<Evidence, Status> {
    let mut storage = StorageServiceClient::new(channel);
    match operation {
        Operation::CreateVolume(op) => {
            let image = get_image(&mut storage, op.domain_id.to_string(), op.image_id.to_string()).await?;
            let volume = get_volume(&mut storage, op.domain_id, op.image_id, op.volume_id).await?;
            Ok(of_new_volume(Some(op.capacity_bytes), image, volume))
        }
        // A copy that was cut off is nothing like a volume: it gets its name and its metadata when it is whole.
        Operation::CopyVolume(op) => {
            let at = op.target;
            let image = get_image(&mut storage, at.domain_id.to_string(), at.image_id.to_string()).await?;
            let volume = get_volume(&mut storage, at.domain_id, at.image_id, at.volume_id).await?;
            Ok(of_new_volume(None, image, volume))
        }
        Operation::DeleteImage(DeleteImage { domain_id, image_id }) => {
            let image = get_image(&mut storage, domain_id.to_string(), image_id.to_string()).await?;
            Ok(of_delete_image(image))
        }
        // It touches nothing, so done and undone are the same.
        Operation::Noop => Ok(Evidence::NothingThere),
    }
}

/// Looks what there is of a disk, in words beside; none where it cannot be told.
///
/// # Errors
/// The host's status, where it says nothing about storage.
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
        Seen::Unreadable(_) => return None,
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

/// What a read says: the thing, that it is not there, or that it cannot be told.
#[derive(Debug, PartialEq)]
pub(super) enum Seen<T> {
    There(T),
    Absent,
    Unreadable(String),
}

/// Reads an image with its volumes.
///
/// # Errors
/// The host's status, where it says nothing about storage.
pub(super) async fn get_image(
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

async fn get_volume(
    storage: &mut StorageServiceClient<Channel>,
    domain_id: DomainId,
    image_id: ImageId,
    volume_id: VolumeId,
) -> Result<Seen<Volume>, Status> {
    let request = GetVolumeRequest {
        domain_id: domain_id.to_string(),
        image_id: image_id.to_string(),
        volume_id: volume_id.to_string(),
    };
    let answer = storage
        .get_volume(request)
        .await
        .map(|answer| answer.into_inner().volume);
    let absent = [FaultCode::ImageNotFound, FaultCode::VolumeNotFound];
    Ok(match seen(answer, &absent)? {
        Seen::There(Some(volume)) => Seen::There(volume),
        Seen::There(None) | Seen::Absent => Seen::Absent,
        Seen::Unreadable(why) => Seen::Unreadable(why),
    })
}

/// A fault about storage is an answer; any other refusal is none. A missing domain is no proof of anything: it
/// may not be mounted.
fn seen<T>(answer: Result<T, Status>, absent: &[FaultCode]) -> Result<Seen<T>, Status> {
    let refusal = match answer {
        Ok(thing) => return Ok(Seen::There(thing)),
        Err(refusal) => refusal,
    };
    match status::fault_of(&refusal) {
        Some((fault, _)) if absent.contains(&fault.code) => Ok(Seen::Absent),
        Some((fault, _)) if !fault.code.repeat_may_help() => Ok(Seen::Unreadable(fault.to_string())),
        _ => Err(refusal),
    }
}

/// `capacity_bytes`: what the volume must have; none where only its host knows.
fn of_new_volume(
    capacity_bytes: Option<u64>,
    image: Seen<GetImageResponse>,
    volume: Seen<Volume>,
) -> Evidence {
    let (leftovers, empty) = match image {
        Seen::Unreadable(why) => return Evidence::Unknown(why),
        Seen::There(answer) => {
            let empty = answer.image.is_some_and(|image| image.volumes.is_empty());
            (answer.leftovers, empty)
        }
        Seen::Absent => (Vec::new(), false),
    };
    match volume {
        Seen::Unreadable(why) => Evidence::Unknown(why),
        Seen::Absent if leftovers.is_empty() && empty => Evidence::EmptyImage,
        Seen::Absent if leftovers.is_empty() => Evidence::NothingThere,
        Seen::Absent => Evidence::Partial(format!("leftovers of the image: {}", leftovers.join(", "))),
        Seen::There(volume) => of_volume(capacity_bytes, &volume),
    }
}

fn of_volume(capacity_bytes: Option<u64>, volume: &Volume) -> Evidence {
    if let Some(fault) = &volume.fault {
        return Evidence::Partial(format!("the volume cannot be described: {}", fault.message));
    }
    if volume.legality != i32::from(Legality::Legal) {
        return Evidence::Partial("the volume is there and not LEGAL".to_owned());
    }
    if let Some(wanted) = capacity_bytes
        && u64::try_from(volume.capacity_bytes) != Ok(wanted)
    {
        let note = format!(
            "a volume of this id with {} bytes, not {wanted}",
            volume.capacity_bytes
        );
        return Evidence::Unknown(note);
    }
    Evidence::Done
}

fn of_delete_image(image: Seen<GetImageResponse>) -> Evidence {
    let answer = match image {
        Seen::Unreadable(why) => return Evidence::Unknown(why),
        Seen::Absent => return Evidence::Done,
        Seen::There(answer) => answer,
    };
    match answer.image {
        None if answer.leftovers.is_empty() => Evidence::Done,
        None => Evidence::Partial(format!("renamed, not purged: {}", answer.leftovers.join(", "))),
        Some(image) if image.fault.is_some() => {
            Evidence::Unknown("the image is there and its chain cannot be read".to_owned())
        }
        Some(_) if answer.leftovers.is_empty() => Evidence::Untouched,
        Some(_) => Evidence::Unknown(format!(
            "the image is there, and so are leftovers of it: {}",
            answer.leftovers.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use proto::vdsm::v1::Image;

    use super::*;

    fn whole() -> Volume {
        Volume {
            capacity_bytes: 4096,
            legality: Legality::Legal.into(),
            ..Volume::default()
        }
    }

    fn image(leftovers: &[&str], there: bool) -> Seen<GetImageResponse> {
        Seen::There(GetImageResponse {
            image: there.then(Image::default),
            leftovers: leftovers.iter().map(ToString::to_string).collect(),
        })
    }

    #[test]
    fn a_created_volume_counts_only_when_it_is_whole() {
        let of = |volume| of_new_volume(Some(4096), image(&[], true), Seen::There(volume));
        assert_eq!(of(whole()), Evidence::Done);
        let illegal = Volume {
            legality: Legality::Illegal.into(),
            ..whole()
        };
        assert!(matches!(of(illegal), Evidence::Partial(_)));
        let other = Volume {
            capacity_bytes: 8192,
            ..whole()
        };
        assert!(matches!(of(other), Evidence::Unknown(_)));
        assert_eq!(
            of_new_volume(Some(4096), Seen::Absent, Seen::Absent),
            Evidence::NothingThere
        );
        assert_eq!(
            of_new_volume(Some(4096), image(&[], true), Seen::Absent),
            Evidence::EmptyImage
        );
        let unreadable = of_new_volume(Some(4096), Seen::Unreadable("not mounted".into()), Seen::Absent);
        assert!(matches!(unreadable, Evidence::Unknown(_)));
    }

    #[test]
    fn a_deleted_image_counts_only_when_nothing_is_left() {
        assert_eq!(of_delete_image(Seen::Absent), Evidence::Done);
        assert_eq!(of_delete_image(image(&[], false)), Evidence::Done);
        assert_eq!(of_delete_image(image(&[], true)), Evidence::Untouched);
        assert!(matches!(
            of_delete_image(image(&["_remove_me_a"], false)),
            Evidence::Partial(_)
        ));
        assert!(matches!(
            of_delete_image(image(&["_remove_me_a"], true)),
            Evidence::Unknown(_)
        ));
    }

    #[test]
    fn a_missing_domain_proves_nothing() {
        let missing = common::fault::Fault::new(FaultCode::DomainNotFound, "no such domain");
        let seen = seen::<()>(Err(status::from_fault(&missing)), &[FaultCode::ImageNotFound]).unwrap();
        assert!(matches!(seen, Seen::Unreadable(_)));
        assert!(super::seen::<()>(Err(Status::unavailable("away")), &[]).is_err());
    }
}
