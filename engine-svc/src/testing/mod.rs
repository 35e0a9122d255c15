//! What the tests of this crate have in common.

pub(crate) mod any;
pub(crate) mod form;
