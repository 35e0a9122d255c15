//! `noop` on the wire.

wire_form! { Noop {} }

#[cfg(test)]
mod tests {
    use crate::convert::operation::tests::Sampled;
    use crate::task::v1::Noop;

    impl Sampled for Noop {
        fn sample() -> Self {
            Self {}
        }

        /// It has no field that could be wrong.
        fn bad() -> Vec<(&'static str, Self)> {
            Vec::new()
        }
    }
}
