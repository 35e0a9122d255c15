//! The lines of a volume's metadata, as keys and values.

use std::collections::{BTreeMap, BTreeSet};

use common::id;

use super::MetaError;
use crate::text::{self, shown, strip};

/// The keys and their values, without the spaces around them.
pub(super) struct Keys<'a> {
    values: BTreeMap<&'a str, &'a str>,
    /// Keys that stand there with more than one value.
    pub(super) ambiguous: BTreeSet<&'a str>,
}

impl<'a> Keys<'a> {
    /// Reads the lines up to `EOF`, or all of them where there is none, as VDSM does: a line without `=` says
    /// nothing, and of a key that stands there twice the last value counts.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, MetaError> {
        let mut values = BTreeMap::new();
        let mut ambiguous = BTreeSet::new();
        for line in text::lines(file) {
            let line = std::str::from_utf8(line)
                .map_err(|_| MetaError::NotUtf8(shown(&String::from_utf8_lossy(line))))?;
            if line.starts_with("EOF") {
                break;
            }
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let (key, value) = (strip(key), strip(value));
            if values.insert(key, value).is_some_and(|before| before != value) {
                ambiguous.insert(key);
            }
        }
        if values.is_empty() {
            return Err(MetaError::Empty);
        }
        if values.contains_key("NONE") {
            return Err(MetaError::Cleared);
        }
        Ok(Self { values, ambiguous })
    }

    /// The error for a value that cannot be.
    pub(super) fn bad(&self, key: &'static str) -> MetaError {
        MetaError::Value {
            key,
            value: shown(self.values.get(key).copied().unwrap_or_default()),
        }
    }

    /// A value as it stands there.
    pub(super) fn text(&self, key: &'static str) -> Result<&'a str, MetaError> {
        self.values.get(key).copied().ok_or(MetaError::Missing(key))
    }

    /// A whole number that may be missing.
    pub(super) fn optional_number(&self, key: &'static str) -> Result<Option<i64>, MetaError> {
        let read = |text: &&str| text::whole_number(text).ok_or_else(|| self.bad(key));
        self.values.get(key).map(read).transpose()
    }

    /// A whole number.
    pub(super) fn number(&self, key: &'static str) -> Result<i64, MetaError> {
        self.optional_number(key)?.ok_or(MetaError::Missing(key))
    }

    /// An id, in lower or upper case.
    pub(super) fn id<T: std::str::FromStr<Err = id::IdError>>(
        &self,
        key: &'static str,
    ) -> Result<T, MetaError> {
        self.one_of(key, |text| text.to_ascii_lowercase().parse().ok())
    }

    /// A value that `read` knows.
    pub(super) fn one_of<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, MetaError> {
        read(self.text(key)?).ok_or_else(|| self.bad(key))
    }
}
