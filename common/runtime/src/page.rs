//! Pages of lists: their size in items and in bytes, and the opaque token of the next one. The only place that cuts
//! pages.

use std::fmt::Write as _;

use common::fault::Fault;
use prost::Message;

/// The default size.
pub const DEFAULT_SIZE: usize = 100;

/// The largest size.
pub const MAX_SIZE: usize = 1_000;

/// Bytes that the items of a page may have on the wire, whatever is in them: with what stands beside them an answer
/// has 3 MiB at most, and clients take 4 by default.
pub const MAX_BYTES: usize = (3 << 20) - (64 << 10);

/// What an item takes beside its own bytes: its field's tag, and its length.
const FRAMING_BYTES: usize = 8;

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

/// A page that is being filled.
#[derive(Debug)]
pub struct Page<I> {
    items: Vec<I>,
    size: usize,
    bytes: usize,
}

impl<I: Message> Page<I> {
    /// An empty one, for so many items.
    pub fn of(size: usize) -> Self {
        Self {
            items: Vec::new(),
            size,
            bytes: 0,
        }
    }

    /// Whether no other item has a place.
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.size || self.bytes >= MAX_BYTES
    }

    /// Takes an item that fits. One that does not begins the next page; so does a single one that is larger than a
    /// whole page, and none of ours is: each text and each list in it is bounded.
    #[must_use]
    pub fn take(&mut self, item: I) -> bool {
        let bytes = item.encoded_len() + FRAMING_BYTES;
        if self.is_full() || !self.items.is_empty() && self.bytes + bytes > MAX_BYTES {
            return false;
        }
        self.bytes += bytes;
        self.items.push(item);
        true
    }

    /// Its items.
    pub fn into_items(self) -> Vec<I> {
        self.items
    }
}

/// A page of the items that `make` makes of `keys`, and the last key on it if there are more. No item is made that
/// does not fit.
pub fn fill<K, I: Message>(
    size: usize,
    keys: impl IntoIterator<Item = K>,
    mut make: impl FnMut(&K) -> I,
) -> (Vec<I>, Option<K>) {
    fill_within(size, usize::MAX, keys, |key| (make(key), 0))
}

/// As [`fill`], of items that also say how much had to be read for them: a page ends with the one at which that comes
/// to `most`, however many more there would be room for.
pub fn fill_within<K, I: Message>(
    size: usize,
    most: usize,
    keys: impl IntoIterator<Item = K>,
    mut make: impl FnMut(&K) -> (I, usize),
) -> (Vec<I>, Option<K>) {
    let mut page = Page::of(size);
    let mut last = None;
    let mut read = 0_usize;
    for key in keys {
        if page.is_full() || read >= most {
            return (page.into_items(), last);
        }
        let (item, cost) = make(&key);
        if !page.take(item) {
            return (page.into_items(), last);
        }
        read = read.saturating_add(cost);
        last = Some(key);
    }
    (page.into_items(), None)
}

/// A request for a page of a list.
pub trait Request: Message + Clone {
    /// The list that it is of.
    const NAME: &'static str;

    /// The same request without what says which page is asked for, and how long it may be.
    #[must_use]
    fn of_the_whole(&self) -> Self;
}

macro_rules! requests {
    ($($package:ident::$request:ident),+ $(,)?) => {$(
        impl Request for proto::$package::v1::$request {
            const NAME: &'static str = concat!(stringify!($package), ".", stringify!($request));

            fn of_the_whole(&self) -> Self {
                let mut whole = self.clone();
                whole.page_size = 0;
                whole.page_token = String::new();
                whole
            }
        }
    )+};
}

requests! {
    engine::ListCommandsRequest,
    engine::ListDisksRequest,
    engine::ListEventsRequest,
    engine::ListHostsRequest,
    engine::ListJobsRequest,
    engine::ListStorageDomainsRequest,
    engine::ListTasksRequest,
    engine::ListVmsRequest,
    host::ListImagesRequest,
    host::ListStorageDomainsRequest,
    host::ListTasksRequest,
    host::ListVolumesRequest,
}

/// One list, by its name and what is asked of it: the filter, and not the page. A token is good for the list that
/// answered with it, and for no other: a position in that one would show part of it as if it were the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List([u8; List::BYTES]);

impl List {
    const BYTES: usize = 8;

    /// The list that a request asks for a page of.
    pub fn of<R: Request>(request: &R) -> Self {
        let body = request.of_the_whole().encode_to_vec();
        // FNV-1a: this is no protection.
        let bytes = R::NAME.bytes().chain([0]).chain(body);
        let digest = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(digest.to_be_bytes())
    }

    /// The token of a position in it.
    pub fn token(self, position: &[u8]) -> String {
        let mut text = String::with_capacity((Self::BYTES + position.len()) * 2);
        for byte in self.0.iter().chain(position) {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// The position that a token names; empty for the first page.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming `page_token`.
    pub fn position(self, token: &str) -> Result<Vec<u8>, Fault> {
        let mut bytes = parse(token)?;
        if bytes.is_empty() {
            return Ok(bytes);
        }
        if !bytes.starts_with(&self.0) {
            return Err(Fault::invalid(
                "page_token",
                "belongs to another list, or to this one with another filter; repeat the request that returned it, or leave it empty to start at the beginning",
            ));
        }
        Ok(bytes.split_off(Self::BYTES))
    }
}

fn parse(token: &str) -> Result<Vec<u8>, Fault> {
    let wrong = || {
        Fault::invalid(
            "page_token",
            "is not one that a list returned; leave it empty to start at the beginning",
        )
    };
    let digits = token.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() / 2 > List::BYTES + MAX_POSITION_BYTES {
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
    use proto::engine::v1 as engine;
    use proto::host::v1 as host;

    use super::*;

    #[test]
    fn sizes_out_of_bounds_are_refused_by_name() {
        assert_eq!((size(0), size(1), size(1000)), (Ok(100), Ok(1), Ok(1000)));
        for wrong in [-1, 1001, i32::MIN, i32::MAX] {
            assert_eq!(size(wrong).unwrap_err().subject, "page_size");
        }
    }

    #[test]
    fn a_page_ends_by_items_or_by_bytes_and_the_next_one_goes_on_after_it() {
        for (length, size) in [(0, 3), (10, 1000), (500_000, 1000), (2 << 20, 1000), (4 << 20, 2)] {
            let mut after = None;
            let mut seen = Vec::new();
            loop {
                let keys = (0..20_u32).filter(|key| after.is_none_or(|after| *key > after));
                let (items, next) = fill(size, keys, |key| format!("{key:02}{}", "x".repeat(length)));
                let bytes = items.iter().map(|item| item.len() + FRAMING_BYTES).sum::<usize>();
                assert!(
                    items.len() <= size && (bytes <= MAX_BYTES || items.len() == 1),
                    "{length}"
                );
                assert!(!items.is_empty(), "each page goes on");
                seen.extend(items.iter().map(|item| item[..2].parse::<u32>().unwrap()));
                after = next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(seen, (0..20).collect::<Vec<_>>(), "{length}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_list_and_its_filter_whatever_size_of_page_is_asked_for() {
        let asked = engine::ListVmsRequest {
            name: "a".to_owned(),
            page_size: 3,
            page_token: String::new(),
        };
        let token = List::of(&asked).token(b"here");
        let next = engine::ListVmsRequest {
            page_size: 9,
            page_token: token.clone(),
            ..asked.clone()
        };
        assert_eq!(List::of(&next).position(&token), Ok(b"here".to_vec()));
        let other = engine::ListVmsRequest {
            name: "b".to_owned(),
            ..next
        };
        let (engines, hosts) = (
            engine::ListTasksRequest::default(),
            host::ListTasksRequest::default(),
        );
        assert_ne!(List::of(&engines), List::of(&hosts));
        for list in [List::of(&other), List::of(&engines), List::of(&hosts)] {
            assert_eq!(list.position(&token).unwrap_err().subject, "page_token");
            assert_eq!(list.position(""), Ok(Vec::new()));
        }
    }

    proptest! {
        #[test]
        fn a_position_reads_back(position in proptest::collection::vec(any::<u8>(), 1..512), name in ".{0,9}") {
            let list = List::of(&engine::ListVmsRequest { name, ..Default::default() });
            prop_assert_eq!(list.position(&list.token(&position)), Ok(position));
        }

        #[test]
        fn any_other_text_is_refused_by_name(text in ".{0,40}") {
            let list = List::of(&engine::ListVmsRequest::default());
            match list.position(&text) {
                Ok(position) => prop_assert!(position.is_empty() && text.is_empty()),
                Err(fault) => prop_assert_eq!(fault.subject, "page_token"),
            }
        }
    }
}
