//! Text on storage, read as VDSM reads it: its lines, its spaces, its numbers. VDSM is written in Python, and what
//! Python calls a space or a number is what counts.

/// Of a file of text no more is read: metadata is far smaller, and nobody fills our memory.
pub(crate) const MAX_BYTES: usize = 64 << 10;

/// Characters of a value that is shown in a message: what stands on storage may be of any length.
const SHOWN_CHARS: usize = 64;

/// The lines of a file. Zeros at its end are none of it: VDSM reads whole blocks. An end of two characters makes an
/// empty line more, which says nothing.
pub(crate) fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = file.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    file[..end].split(|b| matches!(b, b'\n' | b'\r'))
}

/// Without the spaces at both ends. Unicode's are not all: Python takes the four separators of ASCII for spaces too.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\x1c'..='\x1f'))
}

/// A whole number: a sign, zeros in front and single underscores between digits are allowed.
pub(crate) fn whole_number(text: &str) -> Option<i64> {
    let text = strip(text);
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let good = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits.split('_').all(good) {
        return None;
    }
    format!("{sign}{}", digits.replace('_', "")).parse().ok()
}

/// The longest beginning that has at most so many characters and so many bytes.
pub(crate) fn cut(text: &str, chars: usize, bytes: usize) -> &str {
    let by_chars = text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    &text[..text.floor_char_boundary(by_chars.min(bytes))]
}

/// What a message shows of a value.
pub(crate) fn shown(value: &str) -> String {
    let beginning = cut(value, SHOWN_CHARS, usize::MAX);
    if beginning.len() == value.len() {
        value.to_owned()
    } else {
        format!("{beginning}…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_for_python_and_zeros_at_the_end_are_none() {
        let read = |file: &'static [u8]| lines(file).filter(|l| !l.is_empty()).collect::<Vec<_>>();
        assert_eq!(read(b"a\nb\r\nc\rd\0\0"), [b"a", b"b", b"c", b"d"]);
        assert_eq!(read(b"a\0b\x0bc\x0cd"), [b"a\0b\x0bc\x0cd"]);
        assert!(read(b"\0\0").is_empty());
        assert!(read(b"").is_empty());
    }

    #[test]
    fn spaces_are_pythons() {
        for space in [
            " ", "\t", "\x0b", "\x0c", "\x1c", "\x1f", "\u{85}", "\u{a0}", "\u{2003}", "\u{3000}",
        ] {
            assert_eq!(strip(&format!("{space}a b{space}{space}")), "a b", "{space:?}");
        }
        assert_eq!(strip("\0a\u{200b}"), "\0a\u{200b}");
    }

    #[test]
    fn numbers_are_pythons() {
        for (text, number) in [
            ("7", Some(7)),
            (" +0_07 ", Some(7)),
            ("-1", Some(-1)),
            ("1_048_576", Some(1 << 20)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("+-1", None),
            ("1e6", None),
            ("1.5", None),
            ("_1", None),
            ("1_", None),
            ("1__0", None),
            ("0x10", None),
        ] {
            assert_eq!(whole_number(text), number, "{text:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("äöü", 2, 99), "äö");
        assert_eq!(cut("äöü", 99, 3), "ä");
        assert_eq!(cut("äöü", 99, 6), "äöü");
        assert_eq!(shown(&"ä".repeat(100)), format!("{}…", "ä".repeat(64)));
        assert_eq!(shown("a"), "a");
    }
}
