//! Cuts a list of items into pieces that a client can take.

use bytes::Bytes;

/// Bytes of a piece: little to hold for a slow reader, and little that stays of it: a stream keeps the buffer of its
/// largest message for as long as it lasts, and there may be ten thousand.
pub(super) const MAX_BYTES: usize = 64 << 10;

/// Cuts `items`, in order, into pieces of at most `max_items` and [`MAX_BYTES`]; an item larger than that is a piece
/// of its own. No items, no pieces.
pub(super) fn cut(items: Vec<Bytes>, max_items: usize) -> Vec<Vec<Bytes>> {
    // The common case by far, and the hot one: nothing is measured.
    if items.len() == 1 {
        return vec![items];
    }
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    let mut bytes = 0;
    for item in items {
        let size = item.len();
        if !piece.is_empty() && (bytes + size > MAX_BYTES || piece.len() >= max_items) {
            pieces.push(std::mem::take(&mut piece));
            bytes = 0;
        }
        bytes += size;
        piece.push(item);
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_piece_is_too_large(
            sizes in proptest::collection::vec(0..700_000usize, 0..12),
            max_items in 1..5usize,
        ) {
            let items: Vec<Bytes> = sizes.iter().map(|size| vec![7; *size].into()).collect();
            let pieces = cut(items.clone(), max_items);
            prop_assert_eq!(pieces.concat(), items);
            for piece in &pieces {
                let bytes: usize = piece.iter().map(Bytes::len).sum();
                prop_assert!(!piece.is_empty() && piece.len() <= max_items.max(1));
                prop_assert!(bytes <= MAX_BYTES || piece.len() == 1);
            }
        }
    }
}
