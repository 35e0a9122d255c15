//! Keys of the tables. Numbers are big-endian, so that bytes sort as the numbers do.

use common::time::Timestamp;

/// The key of a record that is kept in the order of creation.
pub(crate) fn sequence(seq: u64) -> Vec<u8> {
    seq.to_be_bytes().to_vec()
}

/// Reads [`sequence`] back; none for other bytes.
pub(crate) fn read_sequence(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

/// The key of an index by the time of the end: the time, then the record's own key.
pub(crate) fn ended(time: Timestamp, seq: u64) -> Vec<u8> {
    let mut key = moment(time).to_vec();
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// The record's own key in a key made by [`ended`].
pub(crate) fn ended_sequence(key: &[u8]) -> Option<u64> {
    read_sequence(key.get(8..)?)
}

/// A point in time in a key: shifted, so that times before the epoch sort first.
pub(crate) fn moment(time: Timestamp) -> [u8; 8] {
    (time.as_micros().cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_of_keys_is_the_order_of_ends(a: (i64, u64), b: (i64, u64)) {
            let key = |(time, seq)| ended(Timestamp(time), seq);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(ended_sequence(&key(a)), Some(a.1));
        }

        #[test]
        fn a_sequence_reads_back(seq: u64) {
            prop_assert_eq!(read_sequence(&sequence(seq)), Some(seq));
        }
    }
}
