//! Bytes of a stream that were sent and may have to be sent again, by offset.

use std::collections::VecDeque;

use bytes::Bytes;

/// Most bytes of an exec's input that an operator's client, which acknowledges output behind it, has on their way.
pub const INPUT_WINDOW: usize = 256 * 1024;

/// Kept until the other side has taken them.
#[derive(Debug, Default)]
pub struct Kept {
    /// Offset of the first byte in `pieces`.
    base: u64,
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Kept {
    /// Nothing yet, and what comes next has this offset.
    pub fn from(offset: u64) -> Self {
        Self {
            base: offset,
            ..Self::default()
        }
    }

    /// Bytes that are kept.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps the next bytes, and says their offset.
    pub fn push(&mut self, bytes: Bytes) -> u64 {
        let at = self.base + self.len as u64;
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.pieces.push_back(bytes);
        }
        at
    }

    /// Everything below `offset` has arrived. An older word, or one of what was never sent, changes nothing else.
    pub fn taken(&mut self, offset: u64) {
        while let Some(mut first) = self.pieces.pop_front() {
            let end = self.base + first.len() as u64;
            if end <= offset {
                self.len -= first.len();
                self.base = end;
                continue;
            }
            let done = usize::try_from(offset.saturating_sub(self.base)).unwrap_or_default();
            let left = first.split_off(done);
            self.base += done as u64;
            self.len -= done;
            self.pieces.push_front(left);
            return;
        }
    }

    /// All of it, each piece with its offset.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Bytes)> {
        self.pieces.iter().scan(self.base, |at, piece| {
            let offset = *at;
            *at += piece.len() as u64;
            Some((offset, piece.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(kept: &Kept) -> Vec<(u64, Vec<u8>)> {
        kept.iter().map(|(at, piece)| (at, piece.to_vec())).collect()
    }

    #[test]
    fn what_was_taken_is_let_go_to_the_byte() {
        let mut kept = Kept::from(10);
        assert_eq!(kept.push(Bytes::from_static(b"abcd")), 10);
        assert_eq!(kept.push(Bytes::from_static(b"")), 14);
        assert_eq!(kept.push(Bytes::from_static(b"ef")), 14);
        kept.taken(13);
        assert_eq!(pieces(&kept), [(13, b"d".to_vec()), (14, b"ef".to_vec())]);
        kept.taken(11);
        assert_eq!((kept.len(), pieces(&kept).len()), (3, 2), "an older word");
        kept.taken(u64::MAX);
        assert!(kept.is_empty());
        assert_eq!(kept.push(Bytes::from_static(b"g")), 16);
    }
}
