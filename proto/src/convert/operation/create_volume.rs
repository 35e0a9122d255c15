//! `create_volume` on the wire.

wire_form! {
    CreateVolume {
        domain_id: id,
        image_id: id,
        volume_id: id,
        capacity_bytes: capacity,
        format: format,
        allocation: allocation,
        description: description,
    }
}

#[cfg(test)]
mod tests {
    use crate::convert::operation::tests::{ID, Sampled, with};
    use crate::task::v1::CreateVolume;

    impl Sampled for CreateVolume {
        fn sample() -> Self {
            Self {
                domain_id: ID.into(),
                image_id: ID.into(),
                volume_id: ID.into(),
                capacity_bytes: 4096,
                format: 1,
                allocation: 1,
                description: "a disk".into(),
            }
        }

        fn bad() -> Vec<(&'static str, Self)> {
            vec![
                ("domain_id", with(|op: &mut Self| op.domain_id = "x".into())),
                ("image_id", with(|op: &mut Self| op.image_id = "x".into())),
                ("volume_id", with(|op: &mut Self| op.volume_id.clear())),
                ("capacity_bytes", with(|op: &mut Self| op.capacity_bytes = 0)),
                ("format", with(|op: &mut Self| op.format = 77)),
                ("allocation", with(|op: &mut Self| op.allocation = 0)),
                (
                    "description",
                    with(|op: &mut Self| op.description = "a\nb".into()),
                ),
            ]
        }
    }
}
