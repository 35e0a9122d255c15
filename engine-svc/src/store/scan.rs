//! Scans of tables, one bounded piece at a time.

use prost::Message;
use store::{Pair, StoreError, Table, Write};

/// A key of the scanned table, and the record that it leads to.
pub(crate) type Found<R> = (Vec<u8>, R);

/// A piece of a scan.
#[derive(Debug)]
pub(crate) struct Scan<R> {
    /// The readable records.
    pub(crate) found: Vec<Found<R>>,
    /// The key after which the next piece begins; none at the end.
    pub(crate) next: Option<Vec<u8>>,
}

impl<R: Message + Default> Scan<R> {
    /// From pairs whose values are the records themselves.
    pub(super) fn of(table: Table, pairs: Vec<Pair>, limit: usize) -> Self {
        let next = next(&pairs, limit);
        let found = pairs
            .into_iter()
            .filter_map(|(key, bytes)| Some((key, readable(table, &bytes)?)))
            .collect();
        Self { found, next }
    }
}

/// The key after which a scan goes on that asked for `limit` pairs and got these.
pub(super) fn next(pairs: &[Pair], limit: usize) -> Option<Vec<u8>> {
    let (key, _) = pairs.last().filter(|_| pairs.len() >= limit)?;
    Some(key.clone())
}

/// One write.
pub(super) const fn write(table: Table, key: Vec<u8>, value: Option<Vec<u8>>) -> Write {
    Write { table, key, value }
}

/// A record from its bytes.
pub(super) fn decode<R: Message + Default>(table: Table, bytes: &[u8]) -> Result<R, StoreError> {
    R::decode(bytes).map_err(|error| StoreError::Damaged(format!("a record of table {}: {error}", table.0)))
}

/// Decodes one record among many: a damaged record is logged, and harms nothing else.
pub(super) fn readable<R: Message + Default>(table: Table, bytes: &[u8]) -> Option<R> {
    decode(table, bytes)
        .inspect_err(|error| tracing::error!(%error, "a record cannot be read and is left out"))
        .ok()
}
