//! `noop`.

use proto::task::v1::Noop;

use super::{BadInput, Rows};

impl BadInput for Noop {
    /// The message has no field that could be wrong.
    fn rows(_: &str) -> Rows<Self> {
        Rows::of(Self {})
    }
}
