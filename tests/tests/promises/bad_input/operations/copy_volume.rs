//! `copy_volume`.

use proto::task::v1::{CopyVolume, VolumeAddress};
use tests::ids::fresh;
use tests::requests::{KINDS, copy_volume};

use super::{BadInput, Rows};
use crate::bad_input::table::*;

impl BadInput for CopyVolume {
    fn rows(domain: &str) -> Rows<Self> {
        let source = VolumeAddress {
            domain_id: domain.to_owned(),
            image_id: fresh(),
            volume_id: fresh(),
        };
        let own_image = source.image_id.clone();
        Rows::of(copy_volume(&source, KINDS[2]))
            .each("source", [None], |op, x| op.source = x)
            .each("target", [None], |op, x| op.target = x)
            .each("source.domain_id", bad_ids(), |op, x| from(op).domain_id = x)
            .each("source.image_id", bad_ids(), |op, x| from(op).image_id = x)
            .each("source.volume_id", bad_ids(), |op, x| from(op).volume_id = x)
            .each("target.domain_id", bad_ids(), |op, x| to(op).domain_id = x)
            .each("target.image_id", bad_ids(), |op, x| to(op).image_id = x)
            .each("target.volume_id", bad_ids(), |op, x| to(op).volume_id = x)
            // A copy's target must not be in the source's image.
            .each("target.image_id", [own_image], |op, x| to(op).image_id = x)
            .each("format", BAD_ENUMS, |op, x| op.format = x)
            .each("allocation", BAD_ENUMS, |op, x| op.allocation = x)
            .each("description", bad_descriptions(), |op, x| op.description = x)
    }
}

fn from(op: &mut CopyVolume) -> &mut VolumeAddress {
    op.source.get_or_insert_default()
}

fn to(op: &mut CopyVolume) -> &mut VolumeAddress {
    op.target.get_or_insert_default()
}
