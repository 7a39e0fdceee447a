//! Inputs made of others: first all near ones, in order, then random ones of a seed, so that a run can be had again.

use fastrand::Rng;

/// Longest input that is made. Caps of parsers that lie above it are their own tests' to reach.
const LONGEST: usize = 16 * 1024;
/// Most changes to one input.
const MOST_CHANGES: u32 = 8;
/// Numbers at the edges of what counts and lengths are kept in, as they stand in the wires that we have.
const EDGES: [&[u8]; 16] = [
    &[0x7f],
    &[0x80],
    &[0xff, 0xff],
    &[0, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0, 1, 0, 0],
    // LEB128: 2^14, 2^21, 2^31, 2^32 - 1, 2^63, 2^64 - 1, and one that never ends.
    &[0x80, 0x80, 0x01],
    &[0x80, 0x80, 0x80, 0x01],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    b"18446744073709551616",
    b"-1",
];
/// Bytes that mean something in texts.
const MARKS: &[u8] = b"\0\n\r\t \"'(),-./0123456789:;[\\]_{|}\x7f\x80\xc3\xff";

/// The seed, each beginning of it, and it with each byte as 0, 0xff and with each of its bits turned, and with one more.
/// Stops at the first error.
pub fn near<E>(seed: &[u8], mut visit: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    for end in 0..=seed.len() {
        visit(&seed[..end])?;
    }
    let mut changed = seed.to_vec();
    for at in 0..seed.len() {
        let was = seed[at];
        let turned = (0..8).map(|bit| was ^ 1 << bit);
        for byte in turned.chain([0, 0xff]).filter(|byte| *byte != was) {
            changed[at] = byte;
            visit(&changed)?;
        }
        changed[at] = was;
    }
    for more in [0, b'\n', 0xff] {
        changed.push(more);
        visit(&changed)?;
        changed.pop();
    }
    Ok(())
}

/// Most inputs that are learned beside those that it began with.
const LEARNED: usize = 256;

/// Random inputs out of a pool, the same for the same seed, pool and what was learned.
#[derive(Debug)]
pub struct Mutator {
    random: Rng,
    pool: Vec<Vec<u8>>,
    /// How many it began with.
    given: usize,
}

impl Mutator {
    pub fn new(seed: u64, mut pool: Vec<Vec<u8>>) -> Self {
        pool.retain(|input| !input.is_empty());
        // Out of nothing something can be made too.
        pool.push(vec![0]);
        Self {
            random: Rng::with_seed(seed),
            given: pool.len(),
            pool,
        }
    }

    /// One that a parser understood is worth changing further. It takes the place of another that was learned.
    pub fn learn(&mut self, input: Vec<u8>) {
        let number = self.random.usize(0..LEARNED);
        if input.is_empty() || input.len() > LONGEST / 4 {
            return;
        }
        match self.pool.get_mut(self.given + number) {
            Some(place) => *place = input,
            None => self.pool.push(input),
        }
    }

    /// One of the pool, changed a few times.
    pub fn make(&mut self) -> Vec<u8> {
        let mut input = self.any().to_vec();
        for _ in 0..self.random.u32(1..=MOST_CHANGES) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn any(&mut self) -> &[u8] {
        let number = self.random.usize(0..self.pool.len());
        &self.pool[number]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        if input.is_empty() {
            input.push(self.random.u8(..));
            return;
        }
        let at = self.random.usize(0..input.len());
        match self.random.u8(0..10) {
            0 => input[at] ^= 1 << self.random.u8(0..8),
            1 => input[at] = self.random.u8(..),
            2 => input[at] = MARKS[self.random.usize(0..MARKS.len())],
            3 => input[at] = input[at].wrapping_add([1, 0xff][self.random.usize(0..2)]),
            4 => insert(input, at, EDGES[self.random.usize(0..EDGES.len())]),
            5 => {
                let edge = EDGES[self.random.usize(0..EDGES.len())];
                let room = edge.len().min(input.len() - at);
                input[at..at + room].copy_from_slice(&edge[..room]);
            }
            6 => {
                let piece = self.piece(input);
                insert(input, at, &piece);
            }
            7 => {
                let end = self.random.usize(at..=input.len());
                input.drain(at..end);
            }
            8 => {
                let other = self.any().to_vec();
                let piece = self.piece(&other);
                insert(input, at, &piece);
            }
            // The one's beginning with the other's end.
            _ => {
                let other = self.any().to_vec();
                input.truncate(at);
                input.extend_from_slice(&other[self.random.usize(0..other.len())..]);
            }
        }
    }

    fn piece(&mut self, of: &[u8]) -> Vec<u8> {
        let from = self.random.usize(0..of.len());
        let to = self.random.usize(from..=of.len());
        // Many of the same, sometimes: lists with more than there may be.
        let times = if self.random.u8(0..16) == 0 { 256 } else { 1 };
        of[from..to].repeat(times)
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let room = LONGEST.saturating_sub(input.len()).min(piece.len());
    input.splice(at..at, piece[..room].iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_near_inputs_are_visited_and_the_visit_can_end() {
        let mut visited = Vec::new();
        near(b"\x00a", |input| {
            visited.push(input.to_vec());
            Ok::<(), ()>(())
        })
        .expect("no end");
        for expected in [
            &b""[..],
            b"\x00",
            b"\x00a",
            b"\xffa",
            b"\x80a",
            b"\x00\x00",
            b"\x00a\xff",
        ] {
            assert!(visited.iter().any(|input| input == expected), "{expected:?}");
        }
        // Three beginnings, 8 and 1 for the zero, 8 and 2 for the letter, three that are longer.
        assert_eq!(visited.len(), 3 + 9 + 10 + 3);
        assert_eq!(
            near(b"abc", |input| if input.len() == 1 { Err("end") } else { Ok(()) }),
            Err("end")
        );
    }

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_none_is_too_long() {
        let pool = || vec![b"one".to_vec(), vec![7; LONGEST], Vec::new()];
        let (mut a, mut b, mut other) = (
            Mutator::new(1, pool()),
            Mutator::new(1, pool()),
            Mutator::new(2, pool()),
        );
        let mut differs = false;
        for _ in 0..500 {
            let input = a.make();
            assert!(input.len() <= LONGEST);
            assert_eq!(input, b.make());
            differs |= input != other.make();
        }
        assert!(differs);
    }
}
