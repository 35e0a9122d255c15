//! How a field of an operation is written and read. `from_wire` of each is given the field's path, and answers `INVALID_ARGUMENT`
//! naming it.

/// A typed id that must be set.
pub(super) mod id {
    use std::fmt::Display;
    use std::str::FromStr;

    use common::fault::Fault;
    use common::id::IdError;

    pub(in crate::convert) fn to_wire(id: &impl Display) -> String {
        id.to_string()
    }

    pub(in crate::convert) fn from_wire<T>(field: impl Display, text: &str) -> Result<T, Fault>
    where
        T: FromStr<Err = IdError>,
    {
        crate::convert::id(field, text)
    }
}

/// A volume's address that must be set.
pub(super) mod address {
    use std::fmt::Display;

    use common::fault::Fault;
    use common::operation::VolumeAddress;

    use crate::convert::{address_from_wire, address_to_wire};
    use crate::task::v1 as wire;

    pub(in crate::convert) fn to_wire(address: &VolumeAddress) -> Option<wire::VolumeAddress> {
        Some(address_to_wire(address))
    }

    pub(in crate::convert) fn from_wire(
        field: impl Display,
        address: &Option<wire::VolumeAddress>,
    ) -> Result<VolumeAddress, Fault> {
        address_from_wire(field, address.as_ref())
    }
}

/// A capacity, in bytes.
pub(super) mod capacity {
    use std::fmt::Display;

    use common::fault::Fault;
    use common::operation;

    pub(in crate::convert) fn to_wire(bytes: &u64) -> i64 {
        i64::try_from(*bytes).unwrap_or(i64::MAX)
    }

    pub(in crate::convert) fn from_wire(field: impl Display, bytes: &i64) -> Result<u64, Fault> {
        operation::capacity(*bytes).map_err(|error| Fault::invalid(field, error))
    }
}

/// How a volume keeps its data.
pub(super) mod format {
    use std::fmt::Display;

    use common::fault::Fault;
    use common::operation::VolumeFormat;

    use crate::convert::{format_from_wire, format_to_wire};

    pub(in crate::convert) fn to_wire(format: &VolumeFormat) -> i32 {
        format_to_wire(*format).into()
    }

    pub(in crate::convert) fn from_wire(field: impl Display, value: &i32) -> Result<VolumeFormat, Fault> {
        format_from_wire(field, *value)
    }
}

/// How a volume takes its space.
pub(super) mod allocation {
    use std::fmt::Display;

    use common::fault::Fault;
    use common::operation::Allocation;

    use crate::convert::{allocation_from_wire, allocation_to_wire};

    pub(in crate::convert) fn to_wire(allocation: &Allocation) -> i32 {
        allocation_to_wire(*allocation).into()
    }

    pub(in crate::convert) fn from_wire(field: impl Display, value: &i32) -> Result<Allocation, Fault> {
        allocation_from_wire(field, *value)
    }
}

/// A volume's description.
pub(super) mod description {
    use std::fmt::Display;

    use common::fault::Fault;
    use common::operation;

    pub(in crate::convert) fn to_wire(text: &str) -> String {
        text.to_owned()
    }

    pub(in crate::convert) fn from_wire(field: impl Display, text: &str) -> Result<String, Fault> {
        operation::description(text).map_err(|error| Fault::invalid(field, error))
    }
}

/// Yes or no.
pub(super) mod flag {
    use std::fmt::Display;

    use common::fault::Fault;

    pub(in crate::convert) fn to_wire(flag: &bool) -> bool {
        *flag
    }

    pub(in crate::convert) fn from_wire(_: impl Display, flag: &bool) -> Result<bool, Fault> {
        Ok(*flag)
    }
}
