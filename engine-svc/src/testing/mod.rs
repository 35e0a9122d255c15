//! The code that the tests of this crate share.

pub(crate) mod any;
pub(crate) mod form;
