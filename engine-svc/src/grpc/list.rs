//! Pages of lists, over tables of any shape.

use prost::Message;
use runtime::page::Page;
use runtime::store::StoreError;

use crate::store::scan::Scan;

/// Records read at a time.
const PIECE: usize = 500;

/// Records looked at for one page: a filter that selects next to nothing answers with a short page, and a place to
/// go on from, rather than late.
const LOOKED_AT: usize = 20_000;

/// A page, and the key to go on after; none at the end.
pub(crate) type Listed<I> = (Vec<I>, Option<Vec<u8>>);

/// Takes items from `scan` until the page is full. `scan` reads the piece after a key; `select` makes an item of a
/// record, or passes it over.
///
/// # Errors
/// What `scan` says.
pub(crate) fn page<R, I: Message>(
    size: usize,
    after: &[u8],
    scan: impl Fn(Option<&[u8]>, usize) -> Result<Scan<R>, StoreError>,
    select: impl Fn(R) -> Option<I>,
) -> Result<Listed<I>, StoreError> {
    let mut page = Page::of(size);
    let mut looked_at = 0;
    let mut at = Some(after.to_vec()).filter(|key| !key.is_empty());
    loop {
        let piece = scan(at.as_deref(), PIECE)?;
        for (key, record) in piece.found {
            looked_at += 1;
            let fits = select(record).is_none_or(|item| page.take(item));
            if !fits {
                return Ok((page.into_items(), at));
            }
            at = Some(key);
            if page.is_full() {
                return Ok((page.into_items(), at));
            }
        }
        at = piece.next;
        if at.is_none() || looked_at >= LOOKED_AT {
            return Ok((page.into_items(), at));
        }
    }
}
