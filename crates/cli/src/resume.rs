//! What a new connection has to be told, so that a command's streams go on where the lost one was.
//!
//! Input is kept until the command has it; output counts once it is written. The other side says first from where it
//! wants input: until then none is sent.

use bytes::Bytes;
use clawker_wire::kept::Kept;

use crate::relay::Say;

/// Most bytes of input that are on their way.
const WINDOW: usize = 256 * 1024;

#[derive(Default)]
pub struct Resume {
    input: Kept,
    /// Bytes of stdout and stderr that were written.
    written: [u64; 2],
    /// … and that the other side knows of.
    told: [u64; 2],
    open: bool,
    opened_before: bool,
}

impl Resume {
    /// Whether the other side wants more input.
    pub fn takes_input(&self) -> bool {
        self.open && self.input.len() < WINDOW
    }

    /// Whether this connection came to carry the command's streams.
    pub fn is_open(&self) -> bool {
        self.open
    }

    pub fn keep(&mut self, input: Bytes) {
        self.input.push(input);
    }

    pub fn taken(&mut self, offset: u64) {
        self.input.taken(offset);
    }

    /// Another connection begins.
    pub fn cut(&mut self) {
        self.opened_before |= std::mem::take(&mut self.open);
        self.told = self.written;
    }

    /// Whether a connection before this one carried the command's streams.
    pub fn is_again(&self) -> bool {
        self.opened_before
    }

    /// Input is wanted from there; what is to be sent again.
    pub fn open(&mut self, offset: u64) -> Vec<Say> {
        if self.input.is_empty() {
            // Somebody else gave what came before.
            self.input = Kept::from(offset);
        }
        self.input.taken(offset);
        self.open = true;
        self.input.iter().map(|(_, piece)| Say::Stdin(piece)).collect()
    }

    pub fn wrote(&mut self, stream: usize, bytes: usize) {
        self.written[stream] += bytes as u64;
    }

    /// Bytes of stdout and stderr that are where they belong.
    pub fn written(&self) -> [u64; 2] {
        self.written
    }

    /// What is to be said of output.
    pub fn word(&mut self) -> Option<Say> {
        let news = self.open && self.told != self.written;
        self.told = if news { self.written } else { self.told };
        news.then_some(Say::Has(self.written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_connection_goes_on_where_the_lost_one_was() {
        let mut resume = Resume::default();
        assert!(!resume.takes_input(), "before it is known from where");
        assert!(resume.open(0).is_empty());
        resume.keep(Bytes::from_static(b"abc"));
        resume.keep(Bytes::from_static(b"de"));
        resume.taken(1);
        resume.wrote(1, 7);
        assert_eq!(resume.word(), Some(Say::Has([0, 7])));
        assert_eq!(resume.word(), None);

        resume.wrote(0, 2);
        resume.cut();
        assert_eq!((resume.word(), resume.takes_input()), (None, false));
        assert_eq!(resume.written(), [2, 7]);
        let again = [
            Say::Stdin(Bytes::from_static(b"c")),
            Say::Stdin(Bytes::from_static(b"de")),
        ];
        assert_eq!(resume.open(2), again);
        assert!(resume.takes_input());
        resume.keep(Bytes::from(vec![0; WINDOW]));
        assert!(!resume.takes_input());
    }
}
