//! Texts that people give: names and descriptions, bounded and free of control characters. For texts that are only
//! shown, see [`crate::words`]. A line end in a description could forge a line of a volume's metadata.

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
    /// It has no visible character.
    #[error("is blank; a name needs a visible character")]
    Blank,
    /// An invisible character.
    #[error(
        "has the invisible character {} at character {at}; invisible characters are allowed only where they join letters or emoji",
        .found.escape_unicode()
    )]
    Unseen {
        /// The character.
        found: char,
        /// Its place, counted from 0.
        at: usize,
    },
    /// A character that [`steers`].
    #[error(
        "has the control character {} at character {at}; line breaks, control characters and characters that change the writing direction are not allowed",
        .found.escape_default()
    )]
    Control {
        /// The character.
        found: char,
        /// Its place, counted from 0.
        at: usize,
    },
}

/// Whether a character has an effect other than being displayed: it ends a line (U+2028 and U+2029 do so for readers
/// that follow Unicode), controls a terminal (ASCII's and C1's), or changes the writing direction (Unicode's
/// `Bidi_Control`).
pub fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Whether a character is invisible, so that two different names could look the same: Unicode's `Cf`, and fillers
/// that only take space.
pub(crate) fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e00ff}'
            | '\u{e01f0}'..='\u{e0fff}'
    )
}

/// Whether an invisible character affects its neighbours: Persian and Indic scripts join and separate letters with
/// such characters, emoji are composed with others, and Chinese and Mongolian select variants of a letter.
fn joins(letter: char) -> bool {
    matches!(letter, '\u{200c}' | '\u{200d}') || chooses(letter)
}

fn chooses(letter: char) -> bool {
    matches!(letter, '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Checks a name: 1 to [`NAME_CHARS`] characters, at least one of them visible, and none that [`steers`] or is
/// invisible.
///
/// # Errors
/// What is wrong with it.
pub fn name(text: &str) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty { max: NAME_CHARS });
    }
    bounded(text, NAME_CHARS)?;
    // The blank Braille pattern counts as a space.
    match text
        .chars()
        .all(|letter| letter.is_whitespace() || letter == '\u{2800}')
    {
        true => Err(TextError::Blank),
        false => Ok(()),
    }
}

/// Checks a description: up to [`DESCRIPTION_CHARS`] characters, none that [`steers`] or is invisible.
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
    let mut before = None;
    let mut letters = text.chars().enumerate().peekable();
    while let Some((at, found)) = letters.next() {
        if steers(found) {
            return Err(TextError::Control { found, at });
        }
        let next = letters.peek().map(|(_, letter)| *letter);
        if is_unseen(found) || (joins(found) && !is_joined(before, found, next)) {
            return Err(TextError::Unseen { found, at });
        }
        before = Some(found);
    }
    Ok(())
}

/// Whether a joining character has an effect at its position: ASCII is never joined, and a letter has at most one
/// variant selector.
fn is_joined(before: Option<char>, letter: char, next: Option<char>) -> bool {
    let is_letter = |letter: char| !letter.is_ascii() && !letter.is_whitespace() && !joins(letter);
    if chooses(letter) {
        before.is_some_and(is_letter)
    } else {
        before.is_some_and(|before| is_letter(before) || chooses(before)) && next.is_some_and(is_letter)
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
    fn what_nobody_sees_is_refused_in_a_name() {
        for unseen in [
            '\u{200b}',
            '\u{feff}',
            '\u{ad}',
            '\u{206a}',
            '\u{2060}',
            '\u{2064}',
            '\u{fff9}',
            '\u{3164}',
            '\u{180e}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{200c}',
            '\u{200d}',
            '\u{fe0f}',
            '\u{e0100}',
            '\u{34f}',
            '\u{115f}',
        ] {
            for text in [
                format!("web{unseen}-01"),
                format!("{unseen}web"),
                format!("web{unseen}"),
                format!("größe ä{unseen}{unseen}"),
                unseen.to_string(),
            ] {
                let error = name(&text).unwrap_err();
                assert!(matches!(error, TextError::Unseen { .. }), "{text:?}");
                assert!(error.to_string().is_ascii(), "{error}");
                assert_eq!(description(&text), Err(error));
            }
        }
        for blank in [" ", "   ", "\u{a0}", "\u{3000}\u{2003}", "\u{2800}"] {
            assert_eq!(name(blank), Err(TextError::Blank), "{blank:?}");
            assert_eq!(description(blank), Ok(()));
        }
        // Written as these languages are, and as people send pictures to each other.
        for joined in [
            "می\u{200c}خواهم",
            "ක\u{dca}\u{200d}ය",
            "👩\u{200d}🚀",
            "❤\u{fe0f}\u{200d}🔥",
            "❤\u{fe0f}",
            "葛\u{e0100}城",
            " web 01 ",
        ] {
            assert_eq!(name(joined), Ok(()), "{joined:?}");
        }
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
