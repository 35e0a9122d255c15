//! Points in a service's history. A revision is the outcome of one input; a token names it for a client.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::id::StoreId;

/// The outcome of one input, counted from 1 in a data directory's life. 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after this.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A random number that a service draws at each start, so that a point of a history that was rolled back (a
/// restored copy of the data directory) is never taken for one of the present history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Start(pub u64);

/// A point in a service's history: good for every watch and filter of that service.
///
/// Printed as `<store>.<start>.<revision>`, the store and the start in lower-case hexadecimal digits and the
/// revision in decimal ones. Clients keep it as it is and give it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// Whose history.
    pub store_id: StoreId,
    /// Which start of the service made it.
    pub start: Start,
    /// The point: everything up to and including this revision has been sent.
    pub revision: Revision,
}

/// A text that is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a token that this kind of service prints")]
pub struct TokenError;

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:016x}.{}",
            self.store_id.as_uuid().simple(),
            self.start.0,
            self.revision.0
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
        Ok(Token {
            store_id: StoreId::from_uuid(Uuid::try_parse(store).map_err(|_| TokenError)?),
            start: Start(u64::from_str_radix(start, 16).map_err(|_| TokenError)?),
            revision: Revision(revision.parse().map_err(|_| TokenError)?),
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

    proptest! {
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
