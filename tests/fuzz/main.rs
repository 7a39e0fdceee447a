//! Every parser of frames, given what nobody should send.
//!
//! ```text
//!  seeds (real encodings, and what once broke: corpus/TARGET/) ─▶ as they are ─▶ cut at every byte ─▶ each byte
//!  replaced ─▶ mutated at random, spliced with each other ─▶ target: it answers, and what it read it reads again
//! ```
//!
//! A run of the tests does so for a fixed number of inputs from a fixed beginning; `cargo xtask fuzz` for as long as is
//! wanted, from a new one. An input that breaks a target is kept as a file, to be put into the corpus.

mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use targets::Target;

/// Inputs that are made at random for each target in a run of the tests.
const RANDOM: u64 = 20_000;

fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target.name)
}

/// Its seeds, and every file of its corpus.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut seeds = (target.seeds)();
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus(target))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    seeds.extend(
        files
            .into_iter()
            .map(|file| std::fs::read(file).expect("a file of the corpus")),
    );
    seeds
}

/// Runs the target on one input. One that breaks it is kept.
fn give(target: &Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.reads)(input))).is_ok() {
        return;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    std::fs::create_dir_all(&dir).expect("a folder for what broke it");
    let file = dir.join(format!("{}-{}", target.name, std::process::id()));
    std::fs::write(&file, input).expect("what broke it is kept");
    panic!(
        "{} broke on {} bytes, kept in {}; mend it, then move the file to {}/",
        target.name,
        input.len(),
        file.display(),
        corpus(target).display()
    );
}

/// All that is tried of each seed, and then at random until `enough`.
fn fuzz(target: &Target, seed: u64, mut enough: impl FnMut(u64) -> bool) -> u64 {
    let seeds = seeds(target);
    let mut given = 0;
    for input in (target.seeds)() {
        assert!((target.reads)(&input), "{}: a seed that isn't well-formed", target.name);
    }
    for input in &seeds {
        for input in mutate::neighbours(input) {
            give(target, &input);
            given += 1;
        }
    }
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut tried = 0;
    while !enough(tried) {
        give(target, &mutate::random(&mut rng, &seeds));
        tried += 1;
    }
    given + tried
}

/// The long form is asked for by `cargo xtask fuzz [TARGET] [--seconds N]`.
#[test]
fn every_parser_answers_whatever_it_is_given() {
    let seconds = std::env::var("CLAWKER_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| Duration::from_secs(text.parse().expect("a number of seconds")));
    let wanted = std::env::var("CLAWKER_FUZZ_TARGET").unwrap_or_default();
    let chosen: Vec<&Target> = targets::ALL
        .iter()
        .filter(|target| wanted.is_empty() || target.name == wanted)
        .collect();
    assert!(!chosen.is_empty(), "no target `{wanted}`: docs/fuzzing.md lists them");
    for target in chosen {
        let Some(seconds) = seconds else {
            fuzz(target, 1, |tried| tried >= RANDOM);
            continue;
        };
        let seed = fastrand::u64(..);
        let until = Instant::now() + seconds;
        let given = fuzz(target, seed, |tried| tried % 256 == 0 && Instant::now() >= until);
        println!("{:<10} {given:>12} inputs from the beginning {seed}", target.name);
    }
}

#[test]
fn the_document_lists_every_target() {
    let page = include_str!("../../docs/fuzzing.md");
    let listed: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let names: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
    assert_eq!(listed, names);
}
