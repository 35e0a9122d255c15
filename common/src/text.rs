//! Texts that people give: names and descriptions, bounded and free of control characters. A line end in a
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
    /// A control character or a line end.
    #[error(
        "holds the control character {found:?} at character {at}; line ends and control characters are not allowed"
    )]
    Control {
        /// The character.
        found: char,
        /// Its place, counted from 0.
        at: usize,
    },
}

/// Checks a name: 1 to [`NAME_CHARS`] characters, none of them a control character.
///
/// # Errors
/// What is wrong with it.
pub fn name(text: &str) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty { max: NAME_CHARS });
    }
    bounded(text, NAME_CHARS)
}

/// Checks a description: up to [`DESCRIPTION_CHARS`] characters, none of them a control character.
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
    // U+2028 and U+2029 end lines too, for readers that follow Unicode.
    match text
        .chars()
        .enumerate()
        .find(|(_, c)| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
    {
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
}
