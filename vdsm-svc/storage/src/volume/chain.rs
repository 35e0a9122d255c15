//! From the leaf down to the base.

use std::collections::BTreeMap;

use common::id::VolumeId;
use common::{Fault, FaultCode};

use super::VolumeInfo;

/// The volumes of an image from the leaf to the base. A template that the image stands on comes last.
///
/// # Errors
/// `VOLUME_METADATA_INVALID` where the records make no single chain: no leaf or several, a loop, or a parent
/// that is not there.
pub fn chain(volumes: &[VolumeInfo]) -> Result<Vec<VolumeId>, Fault> {
    let parents: BTreeMap<VolumeId, Option<VolumeId>> = volumes
        .iter()
        .filter_map(|v| v.meta.as_ref().map(|m| (v.id, m.parent)))
        .collect();
    let mut leaves = parents
        .keys()
        .filter(|id| !parents.values().any(|p| *p == Some(**id)));
    let leaf = match (leaves.next(), leaves.next()) {
        (Some(leaf), None) => *leaf,
        (None, _) => return Err(broken("has no leaf: its volumes form a loop, or there are none")),
        (Some(a), Some(b)) => return Err(broken(&format!("has two leaves, {a} and {b}"))),
    };
    let mut found = Vec::new();
    let mut next = Some(leaf);
    while let Some(id) = next {
        if found.contains(&id) {
            return Err(broken(&format!("has a loop through volume {id}")));
        }
        next = match parents.get(&id) {
            Some(parent) => *parent,
            None => return Err(broken(&format!("lacks volume {id}, which another stands on"))),
        };
        found.push(id);
    }
    Ok(found)
}

fn broken(how: &str) -> Fault {
    Fault::new(
        FaultCode::VolumeMetadataInvalid,
        format!("the chain {how}; compare the image's .meta files"),
    )
}
