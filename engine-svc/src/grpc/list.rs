//! Pages of lists, over tables of any shape.

use std::cell::Cell;
use std::ops::Bound;

use common::revision::Revision;
use prost::Message;
use runtime::page::{self, Page};
use store::{Order, Pair, Reader, StoreError, Table};

use crate::store::scan::Scan;

/// The number of a table's records that are read at a time: enough for a page of the usual size.
const PIECE: usize = 100;

/// The maximum number of records read for one page, wherever they are read: enough for a hundred jobs of the usual
/// size, or for the largest page of disks. If a filter selects next to nothing, or an item consists of many records,
/// the answer is a short page with a token to go on, so that others have their turn between two pages.
const READ: usize = 2 * page::MAX_SIZE;

/// A page, and the key after which the next one begins; none at the end.
pub(crate) type Listed<I> = (Vec<I>, Option<Vec<u8>>);

/// Takes items until the page is full. `scan` reads the piece of a table after a key; `select` makes an item of a
/// record, or skips the record. Both read through the given reader, whose count bounds the page.
///
/// # Errors
/// The error of `scan`.
pub(crate) fn page<R, I: Message>(
    reader: &dyn Reader,
    size: usize,
    after: &[u8],
    scan: impl Fn(&dyn Reader, Option<&[u8]>, usize) -> Result<Scan<R>, StoreError>,
    select: impl Fn(&dyn Reader, R) -> Option<I>,
) -> Result<Listed<I>, StoreError> {
    let reader = Counting {
        reader,
        read: Cell::new(0),
    };
    let mut page = Page::of(size);
    let mut at = Some(after.to_vec()).filter(|key| !key.is_empty());
    loop {
        let piece = scan(&reader, at.as_deref(), PIECE)?;
        for (key, record) in piece.found {
            let fits = select(&reader, record).is_none_or(|item| page.take(item));
            if !fits {
                return Ok((page.into_items(), at));
            }
            at = Some(key);
            if page.is_full() || reader.read.get() >= READ {
                return Ok((page.into_items(), at));
            }
        }
        at = piece.next;
        // Nothing was found in a damaged piece.
        if at.is_none() || reader.read.get() >= READ {
            return Ok((page.into_items(), at));
        }
    }
}

/// A reader that counts the records that it reads.
struct Counting<'r> {
    reader: &'r dyn Reader,
    read: Cell<usize>,
}

impl Counting<'_> {
    fn count(&self, records: usize) {
        self.read.set(self.read.get() + records);
    }
}

impl Reader for Counting<'_> {
    fn revision(&self) -> Revision {
        self.reader.revision()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.count(1);
        self.reader.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let found = self.reader.scan(table, range, order, limit)?;
        self.count(found.len());
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table("rows");

    /// A table with this many rows; every single record can be read.
    struct Rows(u32);

    impl Reader for Rows {
        fn revision(&self) -> Revision {
            Revision(1)
        }

        fn get(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(Some(Vec::new()))
        }

        fn scan(
            &self,
            _: Table,
            (from, _): (Bound<&[u8]>, Bound<&[u8]>),
            _: Order,
            limit: usize,
        ) -> Result<Vec<Pair>, StoreError> {
            let from = match from {
                Bound::Excluded(key) => u32::from_be_bytes(key.try_into().unwrap()) + 1,
                Bound::Included(_) | Bound::Unbounded => 0,
            };
            let rows = (from..self.0).take(limit);
            Ok(rows.map(|row| (row.to_be_bytes().to_vec(), Vec::new())).collect())
        }
    }

    /// All pages of a list of a table with 10,000 rows, each with the number of records read for it.
    fn pages(select: impl Fn(&dyn Reader, usize) -> Option<String>) -> Vec<(Vec<String>, usize)> {
        let rows = Rows(10_000);
        let (mut after, mut pages) = (Vec::new(), Vec::new());
        let row = Cell::new(0);
        loop {
            let read = Cell::new(0);
            let listed = page(
                &rows,
                1_000,
                &after,
                |reader, after, limit| {
                    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                    let pairs = reader.scan(TABLE, (from, Bound::Unbounded), Order::Ascending, limit)?;
                    read.set(read.get() + pairs.len());
                    let next = pairs.last().filter(|_| pairs.len() == limit);
                    Ok(Scan {
                        next: next.map(|(key, _)| key.clone()),
                        found: pairs.into_iter().map(|(key, _)| (key, ())).collect(),
                    })
                },
                |reader, ()| {
                    row.set(row.get() + 1);
                    let before = read.get();
                    let item = select(reader, row.get() - 1);
                    read.set(before + item.as_ref().map_or(0, String::len));
                    item
                },
            );
            let (items, next) = listed.unwrap();
            pages.push((items, read.get()));
            match next {
                Some(next) => after = next,
                None => return pages,
            }
        }
    }

    #[test]
    fn a_filter_that_selects_next_to_nothing_answers_in_time_with_a_place_to_go_on_from() {
        let pages = pages(|_, row| (row == 9_999).then(|| "last".to_owned()));
        assert!(pages.len() >= 5, "{}", pages.len());
        assert!(pages.iter().all(|(_, read)| *read <= READ + PIECE));
        let found: Vec<_> = pages.into_iter().flat_map(|(items, _)| items).collect();
        assert_eq!(found, ["last"]);
    }

    #[test]
    fn what_an_item_is_made_of_counts_as_well() {
        let pages = pages(|reader, row| {
            // Reads as many records as the item has characters.
            for _ in 0..200 {
                reader.get(TABLE, b"part").unwrap();
            }
            Some(format!("{row:0200}"))
        });
        assert!(pages.iter().all(|(_, read)| *read <= READ + PIECE + 200));
        let found: Vec<_> = pages.into_iter().flat_map(|(items, _)| items).collect();
        let expected = (0..10_000).map(|row| format!("{row:0200}"));
        assert!(found.into_iter().eq(expected), "each one once, in order");
    }
}
