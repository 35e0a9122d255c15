//! `delete_image`.

use proto::task::v1::DeleteImage;
use tests::ids::fresh;
use tests::requests::delete_image;

use super::{BadInput, Rows};
use crate::bad_input::table::*;

impl BadInput for DeleteImage {
    fn rows(domain: &str) -> Rows<Self> {
        Rows::of(delete_image(domain, &fresh()))
            .each("domain_id", bad_ids(), |op, x| op.domain_id = x)
            .each("image_id", bad_ids(), |op, x| op.image_id = x)
    }
}
