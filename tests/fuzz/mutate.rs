//! Inputs like those that are real.

use fastrand::Rng;

/// Longest input that is made.
const LONGEST: usize = 16 * 1024;
/// Of a longer seed only so many places are tried one by one.
const PLACES: usize = 512;

/// What is tried of every seed: itself, cut at every byte, and each byte replaced.
pub fn neighbours(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..=seed.len().min(PLACES)).map(|end| seed[..end].to_vec());
    let replaced = (0..seed.len().min(PLACES)).flat_map(|at| {
        [0, 0x7f, 0x80, 0xff, seed[at] ^ 1, seed[at].wrapping_add(1)].map(|byte| {
            let mut input = seed.to_vec();
            input[at] = byte;
            input
        })
    });
    std::iter::once(seed.to_vec()).chain(cut).chain(replaced)
}

/// A seed, changed in one to eight ways.
pub fn random(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(1..=8) {
        change(rng, seeds, &mut input);
        input.truncate(LONGEST);
    }
    input
}

fn change(rng: &mut Rng, seeds: &[Vec<u8>], input: &mut Vec<u8>) {
    let at = rng.usize(..=input.len());
    match rng.u8(..8) {
        0 => input.truncate(at),
        1 => input.insert(at, rng.u8(..)),
        2 if at < input.len() => drop(input.remove(at)),
        3 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
        4 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][rng.usize(..5)],
        // A length that lies.
        5 if at + 4 <= input.len() => {
            let length = [0, 1, 0xffff, 0x7fff_ffff, u32::MAX, rng.u32(..)][rng.usize(..6)];
            let bytes = if rng.bool() {
                length.to_be_bytes()
            } else {
                length.to_le_bytes()
            };
            input[at..at + 4].copy_from_slice(&bytes);
        }
        // The same again.
        6 => {
            let from = rng.usize(..=at);
            let again = input[from..at].to_vec();
            input.splice(at..at, again);
        }
        _ => {
            let other = &seeds[rng.usize(..seeds.len())];
            let from = rng.usize(..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
    }
}
