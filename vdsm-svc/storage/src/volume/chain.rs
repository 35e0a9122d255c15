//! From the leaf down to the base.

use std::collections::{BTreeMap, BTreeSet};

use common::id::VolumeId;
use common::{Fault, FaultCode};

use super::{Role, VolumeInfo, VolumeMeta};

/// The volumes of an image from the leaf to the base. A template that the image stands on comes last.
///
/// The leaf is the volume whose metadata says so, as for VDSM: while a volume is merged away and deleted, another one
/// has no child either, and is left out.
///
/// # Errors
/// `VOLUME_METADATA_INVALID` where the records make no single chain: a volume that cannot be described, no leaf or
/// several, a loop, or a parent that is not there.
pub fn chain(volumes: &[VolumeInfo]) -> Result<Vec<VolumeId>, Fault> {
    let mut records: BTreeMap<VolumeId, &VolumeMeta> = BTreeMap::new();
    // What is data only is no volume yet, or no more (VDSM).
    for volume in volumes.iter().filter(|v| v.recorded) {
        let meta = volume.meta.as_ref().filter(|_| volume.fault.is_none());
        records.insert(volume.id, meta.ok_or_else(|| undescribed(volume))?);
    }
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = Some(leaf(volumes)?);
    while let Some(id) = next {
        if !seen.insert(id) {
            return Err(broken(&format!("has a loop through volume {id}")));
        }
        next = match records.get(&id) {
            Some(meta) => meta.parent,
            None => return Err(broken(&format!("lacks volume {id}, which another is based on"))),
        };
        found.push(id);
    }
    Ok(found)
}

/// The top of the image's own volumes; a template alone in its image is one.
fn leaf(volumes: &[VolumeInfo]) -> Result<VolumeId, Fault> {
    let own: Vec<_> = volumes
        .iter()
        .filter_map(|v| Some((v.id, v.meta.as_ref().filter(|m| m.image == v.seen_in)?.role)))
        .collect();
    if let [(id, Role::Shared)] = own[..] {
        return Ok(id);
    }
    let mut leaves = own.iter().filter(|(_, role)| *role == Role::Leaf);
    match (leaves.next(), leaves.next()) {
        (Some((leaf, _)), None) => Ok(*leaf),
        (Some((a, _)), Some((b, _))) => Err(broken(&format!("has two leaves, {a} and {b}"))),
        (None, _) if own.is_empty() => Err(broken("is empty: no volume here belongs to this image")),
        (None, _) => Err(broken("has no leaf: no volume says VOLTYPE=LEAF")),
    }
}

fn undescribed(volume: &VolumeInfo) -> Fault {
    let why = volume.fault.as_ref().map_or("it has no metadata", |f| &f.message);
    let text = format!("the chain is unknown because a volume of it cannot be described: {why}");
    Fault::new(FaultCode::VolumeMetadataInvalid, text).about(volume.id)
}

fn broken(how: &str) -> Fault {
    Fault::new(
        FaultCode::VolumeMetadataInvalid,
        format!("the chain {how}; compare the image's .meta files"),
    )
}

#[cfg(test)]
mod tests {
    use common::id::{DomainId, ImageId};
    use common::{Allocation, VolumeFormat};
    use uuid::Uuid;

    use super::super::{Legality, VolumeStatus};
    use super::*;

    fn id(n: u128) -> VolumeId {
        VolumeId::from_uuid(Uuid::from_u128(n))
    }

    /// Volume `n` of image 1, on volume `parent`.
    fn volume(n: u128, parent: Option<u128>, role: Role) -> VolumeInfo {
        let image = ImageId::from_uuid(Uuid::from_u128(1));
        VolumeInfo {
            id: id(n),
            seen_in: image,
            status: VolumeStatus::Ok,
            apparent_size_bytes: 0,
            true_size_bytes: 0,
            recorded: true,
            meta: Some(VolumeMeta {
                capacity_bytes: 1,
                created_s: 0,
                description: String::new(),
                disk_type: "DATA".to_owned(),
                domain: DomainId::from_uuid(Uuid::from_u128(1)),
                format: VolumeFormat::Cow,
                generation: 0,
                image,
                legality: Legality::Legal,
                parent: parent.map(id),
                sequence: 0,
                allocation: Allocation::Sparse,
                role,
            }),
            qcow2: None,
            linked: false,
            fault: None,
            remarks: Vec::new(),
        }
    }

    fn trouble(volumes: &[VolumeInfo]) -> String {
        chain(volumes).unwrap_err().message.into()
    }

    #[test]
    fn the_leaf_is_what_says_so() {
        let merged = volume(3, Some(2), Role::Internal);
        let volumes = [
            volume(2, None, Role::Internal),
            merged,
            volume(4, Some(2), Role::Leaf),
        ];
        assert_eq!(chain(&volumes), Ok(vec![id(4), id(2)]));
        assert!(trouble(&volumes[..2]).contains("no leaf"));
        let two = [volume(2, None, Role::Leaf), volume(3, None, Role::Leaf)];
        assert!(trouble(&two).contains("two leaves"));
    }

    #[test]
    fn a_template_is_its_own_chain_and_the_end_of_others() {
        let template = volume(2, None, Role::Shared);
        assert_eq!(chain(std::slice::from_ref(&template)), Ok(vec![id(2)]));
        let mut linked = template;
        if let Some(meta) = &mut linked.meta {
            meta.image = ImageId::from_uuid(Uuid::from_u128(9));
        }
        let child = volume(3, Some(2), Role::Leaf);
        assert_eq!(chain(&[linked.clone(), child]), Ok(vec![id(3), id(2)]));
        assert!(trouble(&[linked]).contains("no volume here belongs"));
    }

    #[test]
    fn what_is_wrong_is_called_by_its_name() {
        let lost = volume(2, Some(9), Role::Leaf);
        assert!(trouble(&[lost]).contains("lacks volume"));
        let ring = [volume(2, Some(3), Role::Leaf), volume(3, Some(2), Role::Internal)];
        assert!(trouble(&ring).contains("loop"));
        let unread = VolumeInfo {
            meta: None,
            fault: Some(broken("x")),
            ..volume(2, None, Role::Leaf)
        };
        let whole = volume(3, None, Role::Leaf);
        let said = trouble(&[unread.clone(), whole.clone()]);
        assert!(
            said.contains("cannot be described") && !said.contains("loop"),
            "{said}"
        );
        let data_only = VolumeInfo {
            recorded: false,
            ..unread
        };
        assert_eq!(chain(&[data_only, whole]), Ok(vec![id(3)]));
    }
}
