//! The format of an operation's notes: a version, then `key=value` lines.

use std::collections::BTreeMap;
use std::str::FromStr;

use common::{Fault, FaultCode};

const VERSION: &str = "1";

/// A note, as lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lines(BTreeMap<String, String>);

impl Lines {
    /// Adds a value.
    pub(super) fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.0.insert(key.to_owned(), value.to_string());
        self
    }

    /// A value; none if it is not noted.
    pub(super) fn get<T: FromStr>(&self, key: &str) -> Result<Option<T>, Fault> {
        let parse = |text: &String| text.parse().map_err(|_| unreadable(&format!("{key}={text}")));
        self.0.get(key).map(parse).transpose()
    }

    /// A required value.
    pub(super) fn need<T: FromStr>(&self, key: &str) -> Result<T, Fault> {
        self.get(key)?
            .ok_or_else(|| unreadable(&format!("{key} is missing")))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let lines = self.0.iter().map(|(key, value)| format!("{key}={value}\n"));
        format!("v={VERSION}\n{}", lines.collect::<String>()).into_bytes()
    }

    pub(super) fn decode(note: &[u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(note).map_err(|_| unreadable("it is not text"))?;
        let mut lines = text.lines();
        if lines.next() != Some("v=1") {
            return Err(unreadable("it has a version that this build cannot read"));
        }
        let pair = |line: &str| {
            let (key, value) = line.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        let pairs: Option<_> = lines.map(pair).collect();
        pairs
            .map(Self)
            .ok_or_else(|| unreadable("a line is not key=value"))
    }
}

fn unreadable(why: &str) -> Fault {
    Fault::new(
        FaultCode::Internal,
        format!("the note that the task recorded cannot be read: {why}; storage was not touched"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_and_another_version_is_refused() {
        let note = Lines::default().with("inode", 7).with("to", "_remove_me_x");
        let back = Lines::decode(&note.encode()).unwrap();
        assert_eq!(back, note);
        assert_eq!(back.need::<u64>("inode"), Ok(7));
        assert_eq!(back.get::<u64>("other"), Ok(None));
        assert!(back.need::<u64>("to").is_err());
        assert!(Lines::decode(b"v=2\n").is_err());
        assert!(Lines::decode(b"\xff").is_err());
        assert!(Lines::decode(b"").is_err());
    }
}
