//! What a new connection has to be told, so that a command's streams go on where the lost one was.
//!
//! Input is kept until the command has it; output counts once it is written. The other side says first from where it
//! wants input: until then none is sent.

use bytes::Bytes;
use clawker_wire::admin::ExecOpened;
use clawker_wire::kept::{INPUT_WINDOW, Kept};

use crate::relay::Say;

#[derive(Default)]
pub struct Resume {
    input: Kept,
    /// Offsets up to which stdout and stderr were written.
    written: [u64; 2],
    /// … and that the other side knows of.
    told: [u64; 2],
    open: bool,
    /// A connection was lost, and the person was told.
    was_cut: bool,
}

impl Resume {
    /// Whether the other side wants more input.
    pub fn takes_input(&self) -> bool {
        self.open && self.input.len() < INPUT_WINDOW
    }

    pub fn keep(&mut self, input: Bytes) {
        self.input.push(input);
    }

    pub fn taken(&mut self, offset: u64) {
        self.input.taken(offset);
    }

    /// The connection was lost. Whether that is news.
    pub fn lose(&mut self) -> bool {
        let came_far = std::mem::take(&mut self.open);
        !std::mem::replace(&mut self.was_cut, true) || came_far
    }

    /// Whether it is news that there is a connection again.
    pub fn was_cut(&mut self) -> bool {
        std::mem::take(&mut self.was_cut)
    }

    /// Each stream goes on from there. What is to be sent again, and how many bytes of output are nowhere any more.
    pub fn open(&mut self, from: &ExecOpened) -> (Vec<Say>, u64) {
        if self.input.is_empty() {
            // Somebody else gave what came before.
            self.input = Kept::from(from.stdin);
        }
        self.input.taken(from.stdin);
        let mut missing = 0;
        for (written, from) in self.written.iter_mut().zip([from.stdout, from.stderr]) {
            missing += from.saturating_sub(*written);
            *written = from.max(*written);
        }
        self.told = self.written;
        self.open = true;
        (self.input.iter().map(|(_, piece)| Say::Stdin(piece)).collect(), missing)
    }

    pub fn wrote(&mut self, stream: usize, bytes: usize) {
        self.written[stream] += bytes as u64;
    }

    /// Offsets up to which stdout and stderr are where they belong.
    pub fn written(&self) -> [u64; 2] {
        self.written
    }

    /// What is to be said of output.
    pub fn word(&mut self) -> Option<Say> {
        if !self.open || self.told == self.written {
            return None;
        }
        self.told = self.written;
        Some(Say::Has(self.written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(stdin: u64, stdout: u64, stderr: u64) -> ExecOpened {
        ExecOpened { stdin, stdout, stderr }
    }

    #[test]
    fn another_connection_goes_on_where_the_lost_one_was() {
        let mut resume = Resume::default();
        assert!(!resume.takes_input(), "before it is known from where");
        assert_eq!(resume.open(&from(0, 0, 0)), (vec![], 0));
        resume.keep(Bytes::from_static(b"abc"));
        resume.keep(Bytes::from_static(b"de"));
        resume.taken(1);
        resume.wrote(1, 7);
        assert_eq!(resume.word(), Some(Say::Has([0, 7])));
        assert_eq!(resume.word(), None);

        resume.wrote(0, 2);
        assert!(resume.lose(), "it is news");
        assert!(!resume.lose(), "and only once");
        assert_eq!((resume.word(), resume.takes_input()), (None, false));
        assert_eq!(resume.written(), [2, 7]);
        let again = vec![
            Say::Stdin(Bytes::from_static(b"c")),
            Say::Stdin(Bytes::from_static(b"de")),
        ];
        assert_eq!(resume.open(&from(2, 2, 7)), (again, 0));
        assert!(resume.takes_input());
        resume.keep(Bytes::from(vec![0; INPUT_WINDOW]));
        assert!(!resume.takes_input());
    }

    #[test]
    fn offsets_are_the_streams_own_whoever_read_before() {
        let mut resume = Resume::default();
        assert_eq!(resume.open(&from(9, 100, 5)), (vec![], 105));
        resume.wrote(0, 1);
        assert_eq!(resume.word(), Some(Say::Has([101, 5])));
        resume.keep(Bytes::from_static(b"x"));
        assert!(resume.lose());
        let (again, _) = resume.open(&from(9, 101, 5));
        assert_eq!(again, [Say::Stdin(Bytes::from_static(b"x"))]);
    }
}
