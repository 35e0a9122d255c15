//! The forms of the fields of parameters. Each form encodes a value, decodes it (the name is the field's, for the
//! error), and says whether a field names the entity of an id.

use crate::store::codec::CodecError;

/// A required id.
pub(super) mod id {
    use std::str::FromStr;

    use common::id::IdError;

    use super::CodecError;
    use crate::store::codec;

    pub(in crate::verbs) fn encode(value: &impl ToString) -> String {
        value.to_string()
    }

    pub(in crate::verbs) fn decode<T: FromStr<Err = IdError>>(
        field: &'static str,
        text: String,
    ) -> Result<T, CodecError> {
        codec::id(field, &text)
    }

    pub(in crate::verbs) fn names(text: &str, id: &str) -> bool {
        text == id
    }
}

/// An optional id.
pub(super) mod optional_id {
    use std::str::FromStr;

    use common::id::IdError;

    use super::CodecError;
    pub(in crate::verbs) use super::id::names;
    use crate::store::codec;

    pub(in crate::verbs) fn encode(value: &Option<impl ToString>) -> String {
        value.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    pub(in crate::verbs) fn decode<T: FromStr<Err = IdError>>(
        field: &'static str,
        text: String,
    ) -> Result<Option<T>, CodecError> {
        codec::optional_id(field, &text)
    }
}

/// A list of ids.
pub(super) mod ids {
    use std::str::FromStr;

    use common::id::IdError;

    use super::CodecError;
    use crate::store::codec;

    pub(in crate::verbs) fn encode(values: &[impl ToString]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    pub(in crate::verbs) fn decode<T: FromStr<Err = IdError>>(
        field: &'static str,
        texts: Vec<String>,
    ) -> Result<Vec<T>, CodecError> {
        codec::ids(field, &texts)
    }

    pub(in crate::verbs) fn names(texts: &[String], id: &str) -> bool {
        texts.iter().any(|text| text == id)
    }
}

/// A text for people, or an address: it names no entity.
pub(super) mod text {
    use super::CodecError;

    pub(in crate::verbs) fn encode(value: &str) -> String {
        value.to_owned()
    }

    pub(in crate::verbs) fn decode(_field: &'static str, text: String) -> Result<String, CodecError> {
        Ok(text)
    }

    pub(in crate::verbs) const fn names(_text: &str, _id: &str) -> bool {
        false
    }
}

/// Yes or no.
pub(super) mod flag {
    use super::CodecError;

    pub(in crate::verbs) const fn encode(value: &bool) -> bool {
        *value
    }

    pub(in crate::verbs) const fn decode(_field: &'static str, flag: bool) -> Result<bool, CodecError> {
        Ok(flag)
    }

    pub(in crate::verbs) const fn names(_flag: &bool, _id: &str) -> bool {
        false
    }
}

/// A size in bytes, which is signed on the wire.
pub(super) mod bytes {
    use super::CodecError;
    use crate::store::codec;

    pub(in crate::verbs) fn encode(value: &u64) -> i64 {
        codec::signed(*value)
    }

    pub(in crate::verbs) fn decode(field: &'static str, bytes: i64) -> Result<u64, CodecError> {
        codec::unsigned(field, bytes)
    }

    pub(in crate::verbs) const fn names(_bytes: &i64, _id: &str) -> bool {
        false
    }
}

/// A requested disk.
pub(super) mod disk {
    use engine_core::model::DiskSpec;
    use proto::convert;
    use proto::engine::v1 as wire;

    use super::CodecError;
    use crate::store::codec;

    pub(in crate::verbs) fn encode(disk: &DiskSpec) -> Option<wire::DiskSpec> {
        Some(encode_one(disk))
    }

    pub(in crate::verbs) fn decode(
        field: &'static str,
        disk: Option<wire::DiskSpec>,
    ) -> Result<DiskSpec, CodecError> {
        decode_one(codec::required(field, disk)?)
    }

    pub(in crate::verbs) fn names(disk: &Option<wire::DiskSpec>, id: &str) -> bool {
        disk.as_ref().is_some_and(|disk| names_one(disk, id))
    }

    pub(super) fn encode_one(disk: &DiskSpec) -> wire::DiskSpec {
        wire::DiskSpec {
            disk_id: disk.disk_id.to_string(),
            domain_id: disk.domain_id.to_string(),
            capacity_bytes: codec::signed(disk.capacity_bytes),
            format: convert::format_to_wire(disk.format).into(),
            allocation: convert::allocation_to_wire(disk.allocation).into(),
            description: disk.description.clone(),
        }
    }

    pub(super) fn decode_one(disk: wire::DiskSpec) -> Result<DiskSpec, CodecError> {
        Ok(DiskSpec {
            disk_id: codec::id("disk_id", &disk.disk_id)?,
            domain_id: codec::id("domain_id", &disk.domain_id)?,
            capacity_bytes: codec::unsigned("capacity_bytes", disk.capacity_bytes)?,
            format: codec::read_format(disk.format)?,
            allocation: codec::read_allocation(disk.allocation)?,
            description: disk.description,
        })
    }

    pub(super) fn names_one(disk: &wire::DiskSpec, id: &str) -> bool {
        disk.disk_id == id || disk.domain_id == id
    }
}

/// A list of requested disks.
pub(super) mod disks {
    use engine_core::model::DiskSpec;
    use proto::engine::v1 as wire;

    use super::{CodecError, disk};

    pub(in crate::verbs) fn encode(disks: &[DiskSpec]) -> Vec<wire::DiskSpec> {
        disks.iter().map(disk::encode_one).collect()
    }

    pub(in crate::verbs) fn decode(
        _field: &'static str,
        disks: Vec<wire::DiskSpec>,
    ) -> Result<Vec<DiskSpec>, CodecError> {
        disks.into_iter().map(disk::decode_one).collect()
    }

    pub(in crate::verbs) fn names(disks: &[wire::DiskSpec], id: &str) -> bool {
        disks.iter().any(|disk| disk::names_one(disk, id))
    }
}

/// The address of a volume on storage.
pub(super) mod volume {
    use common::operation::VolumeAddress;
    use proto::convert;
    use proto::task::v1 as wire;

    use super::CodecError;

    pub(in crate::verbs) fn encode(volume: &VolumeAddress) -> Option<wire::VolumeAddress> {
        Some(convert::address_to_wire(volume))
    }

    pub(in crate::verbs) fn decode(
        field: &'static str,
        volume: Option<wire::VolumeAddress>,
    ) -> Result<VolumeAddress, CodecError> {
        Ok(convert::address_from_wire(field, volume.as_ref())?)
    }

    pub(in crate::verbs) fn names(volume: &Option<wire::VolumeAddress>, id: &str) -> bool {
        volume
            .as_ref()
            .is_some_and(|volume| volume.domain_id == id || volume.image_id == id || volume.volume_id == id)
    }
}
