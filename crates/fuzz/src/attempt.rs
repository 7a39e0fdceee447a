//! One input for one target, and what comes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Target;

/// What any input may make a parser allocate: serde's first guess at a sequence's length is 1 MiB at most, and several
/// sequences may be nested.
pub const SLACK: u64 = 8 * 1024 * 1024;

/// How much was allocated so far, in bytes, by everybody; `None` where nobody counts.
pub type Meter = Option<fn() -> u64>;

/// What is wrong with a parser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("it panicked: {0}")]
    Panicked(String),
    #[error("it allocated {allocated} bytes for {len} bytes of input, the limit is {most}")]
    Greedy { len: usize, allocated: u64, most: u64 },
}

/// Runs the target on the input; whether anything was read.
pub fn attempt(target: &Target, input: &[u8], meter: Meter) -> Result<bool, Failure> {
    let before = meter.map(|meter| meter());
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    let allocated = meter.map_or(0, |meter| meter()).saturating_sub(before.unwrap_or(0));
    let read = outcome.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Failure::Panicked(text.unwrap_or("without a word").to_owned())
    })?;
    let most = SLACK + target.factor * input.len() as u64;
    if allocated > most {
        let len = input.len();
        return Err(Failure::Greedy { len, allocated, most });
    }
    Ok(read)
}

/// A shorter input that fails too, in some way: pieces are taken out for as long as one can be. Says nothing of the
/// panics on the way, whatever thread they are of.
pub fn shrunk(target: &Target, input: &[u8], meter: Meter) -> Vec<u8> {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let shortest = shortest(target, input, meter);
    std::panic::set_hook(loud);
    shortest
}

fn shortest(target: &Target, input: &[u8], meter: Meter) -> Vec<u8> {
    let fails = |input: &[u8]| attempt(target, input, meter).is_err();
    let mut best = input.to_vec();
    let mut piece = best.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < best.len() {
            let mut without = best.clone();
            without.drain(at..(at + piece).min(best.len()));
            if fails(&without) {
                best = without;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    best
}
