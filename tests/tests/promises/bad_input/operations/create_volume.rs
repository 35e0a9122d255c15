//! `create_volume`.

use proto::task::v1::CreateVolume;
use tests::requests::{KINDS, create_volume};

use super::{BadInput, Rows};
use crate::bad_input::table::*;

impl BadInput for CreateVolume {
    fn rows(domain: &str) -> Rows<Self> {
        Rows::of(create_volume(domain, KINDS[0]))
            .each("domain_id", bad_ids(), |op, x| op.domain_id = x)
            .each("image_id", bad_ids(), |op, x| op.image_id = x)
            .each("volume_id", bad_ids(), |op, x| op.volume_id = x)
            .each("capacity_bytes", BAD_SIZES, |op, x| op.capacity_bytes = x)
            .each("format", BAD_ENUMS, |op, x| op.format = x)
            .each("allocation", BAD_ENUMS, |op, x| op.allocation = x)
            .each("description", bad_descriptions(), |op, x| op.description = x)
    }
}
