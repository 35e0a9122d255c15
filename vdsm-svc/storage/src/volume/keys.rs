//! The lines of a volume's metadata, as keys and values.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::MetaError;

/// The keys and their values.
pub(super) struct Keys<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Keys<'a> {
    /// Reads the lines up to `EOF`.
    pub(super) fn read(text: &'a str) -> Result<Self, MetaError> {
        if text.trim().is_empty() {
            return Err(MetaError::Empty);
        }
        let mut keys = BTreeMap::new();
        let mut whole = false;
        for line in text.lines() {
            if line == "EOF" {
                whole = true;
                break;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| MetaError::Line(line.to_owned()))?;
            if keys.insert(key, value).is_some() {
                return Err(MetaError::Twice(key.to_owned()));
            }
        }
        match (keys.contains_key("NONE"), whole) {
            (true, _) => Err(MetaError::Cleared),
            (false, false) => Err(MetaError::Cut),
            (false, true) => Ok(Self(keys)),
        }
    }

    /// A value as it stands there.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    /// The error for a value that cannot be.
    pub(super) fn bad(&self, key: &'static str) -> MetaError {
        MetaError::Value {
            key,
            value: self.text(key).unwrap_or_default().to_owned(),
        }
    }

    /// A value that may be missing.
    pub(super) fn optional<T: FromStr>(&self, key: &'static str) -> Result<Option<T>, MetaError> {
        self.text(key)
            .map(|text| text.parse().map_err(|_| self.bad(key)))
            .transpose()
    }

    /// A value that must be there.
    pub(super) fn required<T: FromStr>(&self, key: &'static str) -> Result<T, MetaError> {
        self.optional(key)?.ok_or(MetaError::Missing(key))
    }

    /// A value that must be there and that `read` knows.
    pub(super) fn one_of<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, MetaError> {
        let text = self.text(key).ok_or(MetaError::Missing(key))?;
        read(text).ok_or_else(|| self.bad(key))
    }
}
