//! `extend_volume` on the wire.

wire_form! {
    ExtendVolume {
        volume: address,
        capacity_bytes: capacity,
    }
}

#[cfg(test)]
mod tests {
    use crate::convert::operation::tests::{ID, OTHER, Sampled, with};
    use crate::task::v1::{ExtendVolume, VolumeAddress};

    fn address(image: &str) -> Option<VolumeAddress> {
        Some(VolumeAddress {
            domain_id: ID.into(),
            image_id: image.into(),
            volume_id: OTHER.into(),
        })
    }

    impl Sampled for ExtendVolume {
        fn sample() -> Self {
            Self {
                volume: address(OTHER),
                capacity_bytes: 8192,
            }
        }

        fn bad() -> Vec<(&'static str, Self)> {
            vec![
                ("volume", with(|op: &mut Self| op.volume = None)),
                ("volume.image_id", with(|op: &mut Self| op.volume = address("x"))),
                ("capacity_bytes", with(|op: &mut Self| op.capacity_bytes = 0)),
                (
                    "capacity_bytes",
                    with(|op: &mut Self| op.capacity_bytes = i64::MAX),
                ),
            ]
        }
    }
}
