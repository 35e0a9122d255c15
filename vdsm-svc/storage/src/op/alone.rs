//! Whether a volume can be worked on independently of others.

use common::id::VolumeId;
use common::{Fault, FaultCode, VolumeAddress};

use crate::file::Dir;
use crate::volume::{Legality, Role, VolumeMeta, volume_ids};

/// Refuses a volume that is not LEGAL; `instead` is the advice if it is only the placeholder of a template.
///
/// # Errors
/// `VOLUME_ILLEGAL`.
pub(super) fn legal(volume: VolumeId, meta: &VolumeMeta, instead: &str) -> Result<(), Fault> {
    let how = match meta.legality {
        Legality::Legal => return Ok(()),
        Legality::Illegal => {
            "an operation on it was interrupted; finish that operation, or delete its image".to_owned()
        }
        Legality::Fake => format!("a placeholder for a template that is on another domain; {instead}"),
    };
    let legality = meta.legality.as_str();
    Err(fault(
        FaultCode::VolumeIllegal,
        volume,
        &format!("is {legality}: {how}"),
    ))
}

/// Refuses a volume that has a parent or a child, is the link of a template, or is not the only volume of its image.
/// `deed` is what was to be done with it, as in "copied".
///
/// # Errors
/// `VOLUME_IN_CHAIN`; those of the file system.
pub(super) fn check(
    image: &Dir,
    at: VolumeAddress,
    meta: &VolumeMeta,
    linked: bool,
    deed: &str,
) -> Result<(), Fault> {
    let how = if let Some(parent) = meta.parent {
        format!("is based on volume {parent}")
    } else if meta.role == Role::Shared || meta.image != at.image_id {
        "is a template that other images are based on".to_owned()
    } else if linked {
        "has a second name (a hard link), through which it may be changed meanwhile; remove that name first"
            .to_owned()
    } else if meta.role == Role::Internal {
        "is the base of other volumes".to_owned()
    } else if let Some(other) = volume_ids(image)?.into_iter().find(|id| *id != at.volume_id) {
        format!("is not the only volume in its image: volume {other} is there too")
    } else {
        return Ok(());
    };
    Err(fault(
        FaultCode::VolumeInChain,
        at.volume_id,
        &format!("{how}; only the only volume of an image can be {deed}"),
    ))
}

fn fault(code: FaultCode, volume: VolumeId, what: &str) -> Fault {
    Fault::new(code, format!("volume {volume} {what}")).about(volume)
}
