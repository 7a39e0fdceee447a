//! Standard input of an operator's exec on its way to clawkerd: kept until it is taken, so that another session can be
//! told what the lost one wasn't.

use bytes::Bytes;
use clawker_wire::MAX_DATA;
use clawker_wire::kept::{INPUT_WINDOW, Kept};
use clawker_wire::session::{self as proto, IoFrame, Stream, io_frame};

/// Most bytes of standard input that are on their way. clawkerd keeps 256 KiB.
const STDIN_WINDOW: usize = 128 * 1024;

/// Standard input on its way: what was sent and isn't taken yet, and whether it is at its end.
#[derive(Debug, Default)]
pub struct Stdin {
    kept: Kept,
    pub eof: bool,
}

impl Stdin {
    /// What comes next has this offset.
    pub fn begin(&mut self, offset: u64) {
        self.kept = Kept::from(offset);
    }

    pub fn push(&mut self, bytes: Bytes) -> Vec<IoFrame> {
        let mut frames = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() && !self.eof {
            let piece = rest.split_to(rest.len().min(MAX_DATA));
            frames.push(stdin_frame(self.kept.push(piece.clone()), piece));
        }
        frames
    }

    /// Everything below `offset` has arrived.
    pub fn taken(&mut self, offset: u64) {
        self.kept.taken(offset);
    }

    /// All that a new session has to be told.
    pub fn again(&self) -> Vec<IoFrame> {
        let pieces = self.kept.iter();
        let mut frames: Vec<IoFrame> = pieces.map(|(at, piece)| stdin_frame(at, piece)).collect();
        if self.eof {
            frames.push(frame(io_frame::Body::StdinEof(proto::StdinEof {})));
        }
        frames
    }

    /// Whether the client takes no notice of how much was taken: its window was full, and more came than the message
    /// that filled it.
    pub fn is_overrun(&self) -> bool {
        self.kept.len() > INPUT_WINDOW + clawker_wire::MAX_MESSAGE
    }

    pub fn full(&self) -> bool {
        self.kept.len() >= STDIN_WINDOW
    }
}

fn stdin_frame(offset: u64, bytes: Bytes) -> IoFrame {
    frame(io_frame::Body::Data(proto::Data {
        stream: Stream::Stdin.into(),
        offset,
        bytes,
    }))
}

pub fn frame(body: io_frame::Body) -> IoFrame {
    IoFrame { body: Some(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(frames: &[IoFrame]) -> Vec<(u64, usize)> {
        let data = |frame: &IoFrame| match &frame.body {
            Some(io_frame::Body::Data(data)) => Some((data.offset, data.bytes.len())),
            _ => None,
        };
        frames.iter().filter_map(data).collect()
    }

    #[test]
    fn input_goes_in_pieces_and_is_kept_until_it_is_taken() {
        let mut stdin = Stdin::default();
        assert_eq!(
            sent(&stdin.push(vec![0; MAX_DATA + 10].into())),
            [(0, MAX_DATA), (MAX_DATA as u64, 10)]
        );
        assert!(!stdin.full());
        stdin.push(vec![0; MAX_DATA].into());
        assert!(stdin.full());
        stdin.taken(MAX_DATA as u64 + 4);
        assert!(!stdin.full());
        assert_eq!(
            sent(&stdin.again()),
            [(MAX_DATA as u64 + 4, 6), (MAX_DATA as u64 + 10, MAX_DATA)]
        );
        // An older word changes nothing.
        stdin.taken(3);
        assert_eq!(sent(&stdin.again())[0], (MAX_DATA as u64 + 4, 6));
        stdin.taken(u64::MAX);
        assert_eq!(stdin.again().len(), 0);
        stdin.push(vec![0; INPUT_WINDOW].into());
        assert!(!stdin.is_overrun());
        stdin.push(vec![0; clawker_wire::MAX_MESSAGE + 1].into());
        assert!(stdin.is_overrun());
        stdin.taken(u64::MAX);
        stdin.eof = true;
        assert_eq!(stdin.again().len(), 1);
        assert!(stdin.push(vec![1].into()).is_empty(), "nothing follows the end");
    }
}
