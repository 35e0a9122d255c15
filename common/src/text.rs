//! Texts that people give: names and descriptions, bounded and free of control characters. Texts that are only shown are
//! [`crate::words`]'. A line end in a
//! description could forge a line of a volume's metadata.

/// Characters that a name may have.
pub const NAME_CHARS: usize = 255;

/// Characters that a description may have.
pub const DESCRIPTION_CHARS: usize = 4_096;

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A name must not be empty.
    #[error("is empty; expected 1 to {max} characters")]
    Empty {
        /// How many characters are allowed.
        max: usize,
    },
    /// More characters than allowed.
    #[error("has {chars} characters; at most {max} are allowed")]
    TooLong {
        /// How many it has.
        chars: usize,
        /// How many are allowed.
        max: usize,
    },
    /// A character that [`steers`].
    #[error(
        "holds the control character {} at character {at}; line ends, control characters and those that turn the \
         direction of writing are not allowed",
        .found.escape_default()
    )]
    Control {
        /// The character.
        found: char,
        /// Its place, counted from 0.
        at: usize,
    },
}

/// Whether a character does something else than to be read: it ends a line (U+2028 and U+2029 do so for readers that
/// follow Unicode), controls a terminal (ASCII's and C1's), or turns the direction in which others are shown
/// (Unicode's `Bidi_Control`).
pub fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Checks a name: 1 to [`NAME_CHARS`] characters, none of them one that [`steers`].
///
/// # Errors
/// What is wrong with it.
pub fn name(text: &str) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty { max: NAME_CHARS });
    }
    bounded(text, NAME_CHARS)
}

/// Checks a description: up to [`DESCRIPTION_CHARS`] characters, none of them one that [`steers`].
///
/// # Errors
/// What is wrong with it.
pub fn description(text: &str) -> Result<(), TextError> {
    bounded(text, DESCRIPTION_CHARS)
}

fn bounded(text: &str, max: usize) -> Result<(), TextError> {
    let chars = text.chars().count();
    if chars > max {
        return Err(TextError::TooLong { chars, max });
    }
    match text.chars().enumerate().find(|(_, letter)| steers(*letter)) {
        Some((at, found)) => Err(TextError::Control { found, at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        assert_eq!(name("web-01 Größe"), Ok(()));
        assert_eq!(name(""), Err(TextError::Empty { max: 255 }));
        assert_eq!(
            name(&"ö".repeat(256)),
            Err(TextError::TooLong { chars: 256, max: 255 })
        );
        assert_eq!(
            name("a\nLEGALITY=LEGAL"),
            Err(TextError::Control { found: '\n', at: 1 })
        );
        assert_eq!(
            name("\u{2028}"),
            Err(TextError::Control {
                found: '\u{2028}',
                at: 0
            })
        );
    }

    #[test]
    fn what_turns_the_direction_of_writing_is_refused_and_right_to_left_writing_is_not() {
        for turning in [
            "a\u{202e}txt.exe",
            "\u{2067}a",
            "\u{200f}a",
            "\u{61c}a",
            "a\u{9b}31m",
        ] {
            assert!(description(turning).is_err(), "{turning:?}");
            let words = description(turning).unwrap_err().to_string();
            assert!(!words.chars().any(steers), "{words}");
        }
        assert_eq!(name("שרת-אחד"), Ok(()));
        assert_eq!(name("خادم-واحد"), Ok(()));
    }
}
