//! Texts that others may have influenced, safe to be shown: of bounded length, in one line, without characters that
//! control a terminal or change the writing direction.
//!
//! A text that contains data from storage, the output of a program or a peer's message has one of these types. A
//! value cannot be too long or forge a log line, so no caller has to check that.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::text;

/// A sentence or a few, for people: messages of faults, notes, what something waits for.
pub type Words = Plain<2_048>;

/// A name, an id as it was received, the path of a field.
pub type Label = Plain<512>;

/// At most `MAX` bytes, without characters that [`text::steers`]. A longer text is cut between characters and says
/// so; control characters are escaped, as `\n` or `\u{1b}`. Converting such a text again changes nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Plain<const MAX: usize>(String);

impl<const MAX: usize> Plain<MAX> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Converts a text of any length, without copying more than is kept.
    pub fn of(text: &str) -> Self {
        Self(match plain(text, MAX) {
            Cow::Borrowed(text) => text.to_owned(),
            Cow::Owned(text) => text,
        })
    }
}

/// A number of bytes for people, exact: in the largest unit of which it is a whole number.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut number, mut unit) = (bytes, 0);
    while number > 0 && number.is_multiple_of(1 << 10) && unit + 1 < UNITS.len() {
        (number, unit) = (number >> 10, unit + 1);
    }
    format!("{number} {}", UNITS[unit])
}

/// Whether a character is not shown as it is: what is refused in a name does not come back out of storage or from a host.
fn is_escaped(letter: char) -> bool {
    text::steers(letter) || text::is_unseen(letter)
}

/// The text, escaped and cut to this many bytes.
fn plain(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max && !text.chars().any(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    // If the text is cut, there must be space for a note about it.
    let note = format!("… ({} bytes, cut here)", text.len());
    let room = max.saturating_sub(note.len());
    let mut cut_at = 0;
    for letter in text.chars() {
        // Writing to a String does not fail.
        let _ = match is_escaped(letter) {
            true => write!(kept, "{}", letter.escape_default()),
            false => kept.write_char(letter),
        };
        if kept.len() <= room {
            cut_at = kept.len();
        }
        if kept.len() > max {
            kept.truncate(cut_at);
            kept.push_str(&note);
            break;
        }
    }
    Cow::Owned(kept)
}

impl<const MAX: usize> From<&str> for Plain<MAX> {
    fn from(text: &str) -> Self {
        Self::of(text)
    }
}

impl<const MAX: usize> From<&String> for Plain<MAX> {
    fn from(text: &String) -> Self {
        Self::of(text)
    }
}

impl<const MAX: usize> From<String> for Plain<MAX> {
    fn from(text: String) -> Self {
        match plain(&text, MAX) {
            Cow::Borrowed(_) => Self(text),
            Cow::Owned(text) => Self(text),
        }
    }
}

impl<const MAX: usize> From<Plain<MAX>> for String {
    fn from(text: Plain<MAX>) -> Self {
        text.0
    }
}

impl<const MAX: usize> std::ops::Deref for Plain<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> AsRef<str> for Plain<MAX> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> PartialEq<str> for Plain<MAX> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl<const MAX: usize> PartialEq<&str> for Plain<MAX> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<const MAX: usize> PartialEq<String> for Plain<MAX> {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl<const MAX: usize> fmt::Display for Plain<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Plain<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many items of a list are shown in a sentence or beside other facts.
pub const LISTED: usize = 100;

/// The first items of a list of any length, and how many more there are, for people.
pub fn listed<T: fmt::Display>(items: impl IntoIterator<Item = T>, at_most: usize) -> String {
    let mut items = items.into_iter();
    let mut shown = String::new();
    for (at, item) in items.by_ref().take(at_most).enumerate() {
        // Writing to a String does not fail.
        let _ = write!(shown, "{}{item}", if at == 0 { "" } else { ", " });
    }
    match items.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Sentences, one after the other.
pub fn joined(items: impl IntoIterator<Item = Words>, between: &str) -> Words {
    let items: Vec<String> = items.into_iter().map(String::from).collect();
    items.join(between).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_exactly_in_the_largest_unit() {
        for (bytes, words) in [
            (0, "0 bytes"),
            (1_000, "1000 bytes"),
            (4_096, "4 KiB"),
            (10 << 30, "10 GiB"),
            ((10 << 30) + 4_096, "10485764 KiB"),
            (8 << 40, "8 TiB"),
            (1 << 60, "1048576 TiB"),
        ] {
            assert_eq!(size(bytes), words);
        }
    }

    #[test]
    fn what_is_short_and_plain_stays_as_it_is() {
        for text in ["", "web-01 Größe 🙂", "C:\\n", &"ä".repeat(1_024)] {
            assert_eq!(Words::from(text), text);
        }
    }

    #[test]
    fn what_steers_is_escaped() {
        let hostile = "a\n\r\t\u{1b}[2J\0\u{7f}\u{9b}\u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{61c}\u{200f}b";
        let words = Words::from(hostile);
        assert!(!words.chars().any(text::steers), "{words}");
        assert_eq!(
            words,
            "a\\n\\r\\t\\u{1b}[2J\\u{0}\\u{7f}\\u{9b}\\u{85}\\u{2028}\\u{2029}\\u{202e}\\u{2066}\\u{61c}\\u{200f}b"
        );
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        let hostile = "a\u{200b}\u{ad}\u{feff}b";
        assert_eq!(Words::from(hostile), "a\\u{200b}\\u{ad}\\u{feff}b");
        // Scripts and emoji are joined by these.
        for text in ["\u{645}\u{6cc}\u{200c}\u{62e}", "👩\u{200d}🔧", "☎\u{fe0f}"] {
            assert_eq!(Words::from(text), text);
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_says_so() {
        for unit in ["x", "ä", "🙂", "\n", "\u{202e}", "x\n"] {
            for count in [1_000, 2_049, 300_000] {
                let text = unit.repeat(count);
                let words = Words::from(text.clone());
                assert!(words.len() <= 2_048, "{unit:?} {count}: {}", words.len());
                let note = format!("… ({} bytes, cut here)", text.len());
                assert_eq!(words.ends_with(&note), plain(&text, usize::MAX).len() > 2_048);
                assert_eq!(
                    Words::from(words.as_str()),
                    words,
                    "taking it again changes nothing"
                );
                assert_eq!(Words::from(words.to_string()), words);
            }
        }
    }

    #[test]
    fn a_list_says_how_many_are_left_out() {
        assert_eq!(listed([0_u8; 0], 2), "");
        assert_eq!(listed([1, 2], 2), "1, 2");
        assert_eq!(listed(1..=20_000, 2), "1, 2 and 19998 more");
    }
}
