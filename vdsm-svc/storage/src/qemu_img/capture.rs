//! The output of a child: only the beginning and the end are kept, so that endless output does not fill memory.

/// Bytes that are kept of the beginning.
const HEAD_BYTES: usize = 32 << 10;

/// Bytes that are kept of the end.
const TAIL_BYTES: usize = 8 << 10;

/// The beginning and the end of what was printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Bytes that were dropped between the two.
    dropped: u64,
}

impl Captured {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES - self.head.len();
        let (head, rest) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        if let Some(over) = self.tail.len().checked_sub(TAIL_BYTES).filter(|n| *n > 0) {
            self.tail.drain(..over);
            self.dropped += over as u64;
        }
    }

    /// All of it as text, with a note about the gap.
    pub fn text(&self) -> String {
        let gap = match self.dropped {
            0 => String::new(),
            n => format!("\n… {n} bytes left out …\n"),
        };
        format!(
            "{}{gap}{}",
            String::from_utf8_lossy(&self.head),
            String::from_utf8_lossy(&self.tail)
        )
    }

    /// Whether nothing was dropped.
    pub const fn is_whole(&self) -> bool {
        self.dropped == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_head_and_tail_are_kept() {
        let mut kept = Captured::default();
        kept.push(b"begin");
        for _ in 0..1000 {
            kept.push(&[b'x'; 1000]);
        }
        kept.push(b"end");
        assert!(!kept.is_whole());
        assert!(kept.head.len() + kept.tail.len() <= HEAD_BYTES + TAIL_BYTES);
        let text = kept.text();
        assert!(text.starts_with("beginx") && text.ends_with("xend") && text.contains("bytes left out"));
    }
}
