//! What a client may put into a filter, checked once for both services: how many entries its lists have, how long its texts
//! are. A watch keeps its filter for as long as it lives, so a filter is compact and knows its size.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use common::fault::Fault;
use common::id::{CommandId, IdError};
use proto::convert;

/// Ids or enum values that one list of a filter may hold: one page of a list's answer.
pub const LIST_MAX: usize = 1_000;

/// Characters that a user's name or a correlation id of a filter may have; longer ones are never recorded.
const WORD_CHARS: usize = 255;

/// Ids of a filter's list, 16 bytes each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids(Box<[[u8; 16]]>);

impl Ids {
    /// Reads the ids of a filter's list; an empty list selects everything.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field and the place.
    pub fn read<T>(field: &str, values: &[String]) -> Result<Self, Fault>
    where
        T: FromStr<Err = IdError> + fmt::Display,
    {
        bounded(field, values.len())?;
        let mut ids = Vec::with_capacity(values.len());
        for (at, value) in values.iter().enumerate() {
            // Its kind does not matter any more: all kinds have the same bytes.
            convert::id::<T>(format_args!("{field}[{at}]"), value)?;
            ids.push(*convert::id::<CommandId>(format_args!("{field}[{at}]"), value)?.as_bytes());
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(Self(ids.into_boxed_slice()))
    }

    /// Whether this id, as it is written in records, is one of them, or there are none.
    pub fn select(&self, id: &str) -> bool {
        self.is_empty()
            || id
                .parse::<CommandId>()
                .is_ok_and(|id| self.0.binary_search(id.as_bytes()).is_ok())
    }

    /// Whether they select everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Memory that they take.
    pub fn held_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// The values of a filter's list of an enum; unset and unknown ones are refused.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the field and the place.
pub fn values<E: TryFrom<i32> + Copy>(
    field: &str,
    values: &[i32],
    expected: &str,
) -> Result<BTreeSet<i32>, Fault> {
    bounded(field, values.len())?;
    for (at, value) in values.iter().enumerate() {
        convert::known_enum::<E>(format_args!("{field}[{at}]"), *value, expected)?;
    }
    Ok(values.iter().copied().collect())
}

/// A user's name or a correlation id of a filter; empty selects everything.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the field.
pub fn word(field: &str, value: &str) -> Result<String, Fault> {
    let chars = value.chars().count();
    if chars > WORD_CHARS {
        let problem = format!("has {chars} characters; at most {WORD_CHARS} are allowed");
        return Err(Fault::invalid(field, problem));
    }
    Ok(value.to_owned())
}

fn bounded(field: &str, len: usize) -> Result<(), Fault> {
    if len > LIST_MAX {
        let problem = format!("has {len} entries; at most {LIST_MAX} are allowed");
        return Err(Fault::invalid(field, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use common::id::TaskId;
    use proto::engine::v1::CommandKind;

    use super::*;

    const A: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    const B: &str = "6ba7b811-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn a_wrong_entry_of_a_list_is_named_by_its_place() {
        let fault = Ids::read::<TaskId>("filter.task_ids", &[A.into(), "x".into()]).unwrap_err();
        assert_eq!(fault.subject, "filter.task_ids[1]");
        let fault = values::<CommandKind>("filter.kinds", &[1, 99], "a kind").unwrap_err();
        assert_eq!(fault.subject, "filter.kinds[1]");
    }

    #[test]
    fn lists_and_texts_have_a_bound() {
        let fault = Ids::read::<TaskId>("filter.task_ids", &vec![A.into(); LIST_MAX + 1]).unwrap_err();
        assert_eq!(fault.subject, "filter.task_ids");
        let fault = values::<CommandKind>("states", &vec![1; LIST_MAX + 1], "a kind").unwrap_err();
        assert_eq!(fault.subject, "states");
        let fault = word("filter.user", &"é".repeat(WORD_CHARS + 1)).unwrap_err();
        assert_eq!(fault.subject, "filter.user");
        assert!(word("filter.user", &"é".repeat(WORD_CHARS)).is_ok());
    }

    #[test]
    fn ids_select_those_that_were_given_and_take_16_bytes_each() {
        let ids = Ids::read::<TaskId>("filter.task_ids", &[B.to_uppercase(), A.into(), A.into()]).unwrap();
        assert!(ids.select(A) && ids.select(B) && !ids.select("6ba7b812-9dad-41d1-80b4-00c04fd430c8"));
        assert_eq!(ids.held_bytes(), 2 * 16);
        assert!(Ids::default().select(A));
    }
}
