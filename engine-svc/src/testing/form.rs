//! Arbitrary values of each form that a field of a command's parameters may have, by the form's name in
//! `verbs/form.rs`.

use std::fmt::Debug;
use std::str::FromStr;

use common::id::IdError;
use common::operation::VolumeAddress;
use engine_core::model::DiskSpec;
use proptest::collection::vec;
use proptest::prelude::*;

use super::any;

pub(crate) fn id<T: FromStr<Err = IdError> + Debug>() -> impl Strategy<Value = T> {
    any::uuid().prop_map(|id| id.to_string().parse().expect("it is no nil"))
}

pub(crate) fn optional_id<T: FromStr<Err = IdError> + Debug>() -> impl Strategy<Value = Option<T>> {
    proptest::option::of(id())
}

pub(crate) fn ids<T: FromStr<Err = IdError> + Debug>() -> impl Strategy<Value = Vec<T>> {
    vec(id(), 0..3)
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    any::text()
}

pub(crate) fn flag() -> impl Strategy<Value = bool> {
    proptest::bool::ANY
}

/// Including 0, which stands for a size that was not recorded.
pub(crate) fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 4 => any::capacity()]
}

pub(crate) fn disk() -> impl Strategy<Value = DiskSpec> {
    any::spec()
}

pub(crate) fn disks() -> impl Strategy<Value = Vec<DiskSpec>> {
    vec(any::spec(), 0..3)
}

pub(crate) fn volume() -> impl Strategy<Value = VolumeAddress> {
    any::address()
}
