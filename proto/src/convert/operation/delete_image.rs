//! `delete_image` on the wire.

wire_form! {
    DeleteImage {
        domain_id: id,
        image_id: id,
    }
}

#[cfg(test)]
mod tests {
    use crate::convert::operation::tests::{ID, OTHER, Sampled, with};
    use crate::task::v1::DeleteImage;

    impl Sampled for DeleteImage {
        fn sample() -> Self {
            Self {
                domain_id: ID.into(),
                image_id: OTHER.into(),
            }
        }

        fn bad() -> Vec<(&'static str, Self)> {
            vec![
                ("domain_id", with(|op: &mut Self| op.domain_id = "x".into())),
                ("image_id", with(|op: &mut Self| op.image_id.clear())),
            ]
        }
    }
}
