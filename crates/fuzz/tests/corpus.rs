//! Each target over its corpus, all near inputs and some ten thousand random ones, the same in every run.

use std::alloc::System;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clawker_fuzz::attempt::{Failure, attempt, shrunk};
use clawker_fuzz::hunt::Hunt;
use clawker_fuzz::mutate::{Mutator, near};
use clawker_fuzz::{TARGETS, Target, corpus, target};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Random inputs for each target.
const RANDOM: u32 = 10_000;
const SEED: u64 = 0x00c1_a3ce;

/// By every thread: meaningful where a test has its process to itself, as under nextest.
fn allocated() -> u64 {
    let stats = ALLOCATOR.stats();
    u64::try_from(stats.bytes_allocated).unwrap_or(u64::MAX)
}

/// How often it ran, and how often anything was read; or the input that failed, shrunk.
fn exercise(target: &Target, pool: &[Vec<u8>]) -> Result<(u64, u64), (Failure, Vec<u8>)> {
    let (mut runs, mut read) = (0, 0);
    let mut one = |input: &[u8]| match attempt(target, input, Some(allocated)) {
        Ok(was_read) => {
            runs += 1;
            read += u64::from(was_read);
            Ok(was_read)
        }
        Err(_) => {
            let input = shrunk(target, input, Some(allocated));
            let failure = attempt(target, &input, Some(allocated)).expect_err("it fails still");
            Err((failure, input))
        }
    };
    for seed in pool {
        near(seed, |input| one(input).map(drop))?;
    }
    let mut mutator = Mutator::new(SEED, pool.to_vec());
    for _ in 0..RANDOM {
        let input = mutator.make();
        if one(&input)? {
            mutator.learn(input);
        }
    }
    Ok((runs, read))
}

#[track_caller]
fn holds(name: &str) {
    let target = target(&name.replace('_', "-")).expect("a target");
    let pool = corpus::pool(target).expect("its corpus");
    let as_they_are = pool.iter().filter(|input| (target.check)(input)).count();
    assert!(as_they_are > 0, "nothing of the corpus is read: it begins nowhere");
    match exercise(target, &pool) {
        Ok((runs, read)) => println!("{name}: {runs} inputs, {read} of them were read"),
        Err((failure, input)) => panic!(
            "{failure}\nthe input is {:?}\nKeep it in fuzz/corpus/{}/, and mend the parser.",
            input.escape_ascii().to_string(),
            target.name
        ),
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { holds(stringify!($name)); })*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    preamble bundle join defaults
    session_command session_response session_io agent_request admin_request
    halves user options
    proc_stat proc_files words
    docker_stream docker_answers
    netlink nft_rules certificate definition backup project
    plugin_source oci_answers
}

#[test]
fn every_target_has_its_test() {
    let names: Vec<String> = TARGETS.iter().map(|target| target.name.replace('-', "_")).collect();
    assert_eq!(names, TESTED);
}

const PLANTED: Target = Target {
    name: "planted",
    about: "one that fails",
    check: |input| {
        assert!(!input.windows(2).any(|pair| pair == [b'b', 0xff]), "planted");
        input.starts_with(b"a")
    },
    seeds: Vec::new,
    factor: 1,
};

#[test]
fn a_fault_is_found_and_its_input_is_shrunk() {
    let (failure, input) = exercise(&PLANTED, &[b"aaabcaaa".to_vec()]).expect_err("it is near");
    assert_eq!(failure, Failure::Panicked("planted".to_owned()));
    assert_eq!(input, [b'b', 0xff]);
}

#[test]
fn a_fault_that_is_not_near_is_found_by_chance() {
    let (failure, input) = exercise(&PLANTED, &[vec![b'a'; 40]]).expect_err("ten thousand are enough");
    assert_eq!(
        (failure, input),
        (Failure::Panicked("planted".to_owned()), vec![b'b', 0xff])
    );
}

#[test]
fn a_hunt_keeps_what_it_finds_and_nothing_else() {
    let keep = tempfile::tempdir().expect("tempdir");
    let tried = AtomicU64::new(0);
    let hunt = Hunt {
        seed: SEED,
        time: Duration::ZERO,
        keep: keep.path(),
        meter: None,
        tried: &tried,
    };
    let left = || {
        std::fs::read_dir(keep.path().join("planted"))
            .expect("a folder")
            .count()
    };

    let seeded = Target {
        seeds: || vec![b"aaac".to_vec()],
        ..PLANTED
    };
    let hunted = hunt.of(&seeded).expect("it can write");
    assert!(hunted.found.is_none(), "{:?}", hunted.found);
    assert_eq!(hunted.runs, tried.load(Ordering::Relaxed));
    assert_eq!(left(), 0, "what was being tried is left");

    let near = Target {
        seeds: || vec![b"aaabcaaa".to_vec()],
        ..PLANTED
    };
    let found = hunt.of(&near).expect("it can write").found.expect("it is near");
    assert_eq!(found.failure, Failure::Panicked("planted".to_owned()));
    assert_eq!(std::fs::read(&found.file).expect("kept"), [b'b', 0xff]);
    assert_eq!(left(), 1);
}

#[test]
fn a_parser_that_believes_a_length_is_found() {
    let greedy = Target {
        check: |input| {
            let announced = input.first().map_or(0, |byte| usize::from(*byte) << 20);
            Vec::<u8>::with_capacity(announced).capacity() > 0
        },
        ..PLANTED
    };
    let (failure, _) = exercise(&greedy, &[vec![1, 2, 3]]).expect_err("it allocates");
    assert!(matches!(failure, Failure::Greedy { .. }), "{failure}");
}
