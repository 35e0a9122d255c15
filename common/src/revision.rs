//! Points in a service's history. A revision is the result of one input; a token identifies it for a client.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::id::StoreId;

/// The result of one input, counted from 1 in each data directory. 0 is before the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The next revision.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number of its digits in a token, with leading zeros: an odd number that is larger than the number of
    /// digits of the largest revision.
    const fn digits(self) -> usize {
        21 + 2 * (self.0 % 11) as usize
    }
}

/// A random number that a service draws at each start, so that a point of a history that was rolled back (a
/// restored copy of the data directory) is never taken for one of the present history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Start(pub u64);

/// A point in a service's history: valid for every watch and filter of that service.
///
/// Printed as `<store>.<start>.<revision>`, the store and the start in lower-case hexadecimal digits and the
/// revision in decimal ones. Clients keep it unchanged and send it back.
///
/// The number of leading zeros of the revision serves as a checksum: the revision has 21 digits, plus twice its
/// remainder modulo 11. This detects one wrong digit, two transposed digits, an odd number of missing digits, and
/// most other mistakes. Earlier builds print no leading zeros, and accept any number of them: a revision without
/// leading zeros is accepted unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The store whose history it is.
    pub store_id: StoreId,
    /// The start of the service that made it.
    pub start: Start,
    /// The point: everything up to and including this revision has been sent.
    pub revision: Revision,
}

/// A text that is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a token of this kind of service: send it back exactly as it was received")]
pub struct TokenError;

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:016x}.{:0width$}",
            self.store_id.as_uuid().simple(),
            self.start.0,
            self.revision.0,
            width = self.revision.digits()
        )
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.split('.');
        let (Some(store), Some(start), Some(revision), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError);
        };
        let digits = |s: &str, radix: u32| s.chars().all(|c| c.is_digit(radix) && !c.is_ascii_uppercase());
        if store.len() != 32
            || start.len() != 16
            || !digits(store, 16)
            || !digits(start, 16)
            || !digits(revision, 10)
        {
            return Err(TokenError);
        }
        let is_of_earlier_build = revision == "0" || !revision.starts_with('0');
        let length = revision.len();
        let revision = Revision(revision.parse().map_err(|_| TokenError)?);
        if !is_of_earlier_build && length != revision.digits() {
            return Err(TokenError);
        }
        Ok(Token {
            store_id: StoreId::from_uuid(Uuid::try_parse(store).map_err(|_| TokenError)?),
            start: Start(u64::from_str_radix(start, 16).map_err(|_| TokenError)?),
            revision,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fuzz_whatever_is_taken_for_a_token_prints_as_one() {
        let token = Token {
            store_id: StoreId::from_uuid(Uuid::from_u128(7)),
            start: Start(9),
            revision: Revision(1_234),
        };
        fuzz::fuzz("tokens", [token.to_string().into_bytes()], |input| {
            if let Some(token) = std::str::from_utf8(input)
                .ok()
                .and_then(|text| text.parse::<Token>().ok())
            {
                assert_eq!(token.to_string().parse(), Ok(token));
            }
        });
    }

    fn token(revision: u64) -> Token {
        Token {
            store_id: StoreId::from_uuid(Uuid::from_u128(7)),
            start: Start(9),
            revision: Revision(revision),
        }
    }

    #[test]
    fn a_token_of_an_earlier_build_is_read() {
        for revision in [0, 1, 10, 2_525, u64::MAX] {
            let printed = token(revision).to_string();
            let (rest, _) = printed.rsplit_once('.').unwrap();
            assert_eq!(format!("{rest}.{revision}").parse(), Ok(token(revision)));
            // And those builds read what this one prints.
            assert_eq!(printed.rsplit('.').next().unwrap().parse(), Ok(revision));
        }
    }

    proptest! {
        #[test]
        fn a_token_that_was_cut_or_mistyped_is_refused(revision: u64, at in 0..21_usize, other in 1..10_u8) {
            let printed = token(revision).to_string();
            prop_assert_eq!(printed[..printed.len() - 1].parse::<Token>(), Err(TokenError));
            let start = printed.len() - 21;
            let mut mistyped = printed.clone().into_bytes();
            let digit = &mut mistyped[start + at];
            *digit = b'0' + (*digit - b'0' + other) % 10;
            prop_assert_eq!(String::from_utf8(mistyped).unwrap().parse::<Token>(), Err(TokenError));
            let mut turned = printed.clone().into_bytes();
            let at = start + at.min(19);
            turned.swap(at, at + 1);
            let turned = String::from_utf8(turned).unwrap();
            prop_assert!(turned == printed || turned.parse::<Token>() == Err(TokenError));
        }

        #[test]
        fn a_token_reads_back_as_it_was_printed(store: u128, start: u64, revision: u64) {
            let token = Token {
                store_id: StoreId::from_uuid(Uuid::from_u128(store)),
                start: Start(start),
                revision: Revision(revision),
            };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn any_other_text_is_refused_without_a_panic(text in ".{0,80}") {
            if let Ok(token) = text.parse::<Token>() {
                prop_assert_eq!(token.revision, text.rsplit('.').next().unwrap().parse().map(Revision).unwrap());
            }
        }
    }
}
