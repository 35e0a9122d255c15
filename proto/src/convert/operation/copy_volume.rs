//! `copy_volume` on the wire.

use common::fault::Fault;
use common::operation::CopyVolume;

use super::At;

wire_form! {
    CopyVolume {
        source: address,
        target: address,
        format: format,
        allocation: allocation,
        description: description,
        verify: flag,
    }
    check into_another_image
}

fn into_another_image(at: At<'_>, op: &CopyVolume) -> Result<(), Fault> {
    if op.target.image_id == op.source.image_id && op.target.domain_id == op.source.domain_id {
        return Err(Fault::invalid(
            at.field("target.image_id"),
            "is the source's; expected an image of its own",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::convert::operation::tests::{ID, OTHER, Sampled, with};
    use crate::task::v1::{CopyVolume, VolumeAddress};

    fn address(image: &str) -> Option<VolumeAddress> {
        Some(VolumeAddress {
            domain_id: ID.into(),
            image_id: image.into(),
            volume_id: ID.into(),
        })
    }

    impl Sampled for CopyVolume {
        fn sample() -> Self {
            Self {
                source: address(ID),
                target: address(OTHER),
                format: 2,
                allocation: 1,
                description: "a copy".into(),
                verify: true,
            }
        }

        fn bad() -> Vec<(&'static str, Self)> {
            vec![
                ("source", with(|op: &mut Self| op.source = None)),
                ("source.image_id", with(|op: &mut Self| op.source = address("x"))),
                ("target", with(|op: &mut Self| op.target = None)),
                ("target.image_id", with(|op: &mut Self| op.target = address(""))),
                // A copy is never into its own image.
                ("target.image_id", with(|op: &mut Self| op.target = address(ID))),
                ("format", with(|op: &mut Self| op.format = 0)),
                ("allocation", with(|op: &mut Self| op.allocation = 77)),
                (
                    "description",
                    with(|op: &mut Self| op.description = "a\nb".into()),
                ),
            ]
        }
    }
}
