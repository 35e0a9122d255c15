//! Whether a volume may be worked on by itself.

use common::id::VolumeId;
use common::{Fault, FaultCode, VolumeAddress};

use crate::file::Dir;
use crate::volume::{Legality, Role, VolumeMeta, volume_ids};

/// Refuses what is not LEGAL; `instead` is what to do where it is only the placeholder of a template.
///
/// # Errors
/// `VOLUME_ILLEGAL`.
pub(super) fn legal(volume: VolumeId, meta: &VolumeMeta, instead: &str) -> Result<(), Fault> {
    let how = match meta.legality {
        Legality::Legal => return Ok(()),
        Legality::Illegal => "what worked on it was cut off; finish that, or delete its image".to_owned(),
        Legality::Fake => format!("a placeholder for a template that is on another domain; {instead}"),
    };
    let legality = meta.legality.as_str();
    Err(fault(
        FaultCode::VolumeIllegal,
        volume,
        &format!("is {legality}: {how}"),
    ))
}

/// Refuses what has a parent or a child, is seen here through the link of a template, or has other volumes beside it.
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
        format!("stands on volume {parent}")
    } else if meta.role == Role::Shared || meta.image != at.image_id {
        "is a template that other images stand on".to_owned()
    } else if linked {
        "has another name as well (a hard link), through which it may change meanwhile; remove that name first".to_owned()
    } else if meta.role == Role::Internal {
        "has others that stand on it".to_owned()
    } else if let Some(other) = volume_ids(image)?.into_iter().find(|id| *id != at.volume_id) {
        format!("is not alone in its image: there is volume {other}")
    } else {
        return Ok(());
    };
    Err(fault(
        FaultCode::VolumeInChain,
        at.volume_id,
        &format!("{how}; only a volume that is alone in its image can be {deed}"),
    ))
}

fn fault(code: FaultCode, volume: VolumeId, what: &str) -> Fault {
    Fault::new(code, format!("volume {volume} {what}")).about(volume)
}
