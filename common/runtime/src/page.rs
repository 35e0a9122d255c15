//! Pages of lists: their size, and the opaque token of the next one.

use std::fmt::Write as _;

use common::fault::Fault;

/// The size where none is asked for.
pub const DEFAULT_SIZE: usize = 100;

/// The largest size: with items of some kB a page stays below gRPC's 4 MiB.
pub const MAX_SIZE: usize = 1_000;

/// Bytes that a position may have: no key of ours is longer, and a caller's text is looked at no further.
const MAX_POSITION_BYTES: usize = 512;

/// The number of items on a page.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming `page_size`.
pub fn size(asked: i32) -> Result<usize, Fault> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) if size <= MAX_SIZE => Ok(size),
        _ => Err(Fault::invalid(
            "page_size",
            format!("is {asked}; expected 1 to {MAX_SIZE}, or 0 for {DEFAULT_SIZE}"),
        )),
    }
}

/// The token of a position in a list.
pub fn token(position: &[u8]) -> String {
    let mut text = String::with_capacity(position.len() * 2);
    for byte in position {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The position that a token names; empty for the first page.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming `page_token`.
pub fn parse(token: &str) -> Result<Vec<u8>, Fault> {
    let wrong = || {
        Fault::invalid(
            "page_token",
            "is not one that a list answered with; leave it empty to begin",
        )
    };
    let digits = token.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() / 2 > MAX_POSITION_BYTES {
        return Err(wrong());
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(wrong()),
    };
    digits
        .chunks_exact(2)
        .map(|pair| Ok(nibble(pair[0])? << 4 | nibble(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_out_of_bounds_are_refused_by_name() {
        assert_eq!((size(0), size(1), size(1000)), (Ok(100), Ok(1), Ok(1000)));
        for wrong in [-1, 1001, i32::MIN, i32::MAX] {
            assert_eq!(size(wrong).unwrap_err().subject, "page_size");
        }
    }

    proptest! {
        #[test]
        fn a_position_reads_back(position in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert_eq!(parse(&token(&position)), Ok(position));
        }

        #[test]
        fn any_other_text_is_refused_by_name(text in ".{0,40}") {
            match parse(&text) {
                Ok(position) => prop_assert_eq!(token(&position), text),
                Err(fault) => prop_assert_eq!(fault.subject, "page_token"),
            }
        }
    }
}
