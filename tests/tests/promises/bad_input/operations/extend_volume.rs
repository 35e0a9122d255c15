//! `extend_volume`.

use proto::task::v1::{ExtendVolume, VolumeAddress};
use tests::ids::fresh;

use super::{BadInput, Rows};
use crate::bad_input::table::*;

impl BadInput for ExtendVolume {
    fn rows(domain: &str) -> Rows<Self> {
        let volume = VolumeAddress {
            domain_id: domain.to_owned(),
            image_id: fresh(),
            volume_id: fresh(),
        };
        let right = Self {
            volume: Some(volume),
            capacity_bytes: 1 << 20,
        };
        Rows::of(right)
            .each("volume", [None], |op, x| op.volume = x)
            .each("volume.domain_id", bad_ids(), |op, x| at(op).domain_id = x)
            .each("volume.image_id", bad_ids(), |op, x| at(op).image_id = x)
            .each("volume.volume_id", bad_ids(), |op, x| at(op).volume_id = x)
            .each(
                "capacity_bytes",
                [0, -1, i64::MIN, i64::MAX, (8 << 40) + 1],
                |op, x| {
                    op.capacity_bytes = x;
                },
            )
    }
}

fn at(op: &mut ExtendVolume) -> &mut VolumeAddress {
    op.volume.get_or_insert_default()
}
