//! `noop`.

use super::{Touch, Verb};
use crate::id::VolumeId;

/// Touches nothing. Served only by builds with fail points, to measure everything around an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Noop;

impl Verb for Noop {
    const NAME: &'static str = "noop";

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn volumes(&self) -> Vec<VolumeId> {
        Vec::new()
    }

    fn summary(&self) -> String {
        "do nothing".to_owned()
    }
}
