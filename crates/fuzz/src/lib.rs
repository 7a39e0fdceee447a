//! Every parser of bytes that somebody else chooses, as a target for fuzzing: what it must hold beyond not panicking,
//! and inputs to begin with. Knows no fuzzer: a test, `cargo xtask fuzz` and libFuzzer (`fuzz/`) all run these.
//!
//! ```text
//! targets ── seeds, real encodings ──┐
//! fuzz/corpus/<target>/ ─────────────┴─▶ mutate ──▶ attempt ──▶ Failure ──▶ shrunk, kept (hunt)
//! ```

pub mod attempt;
pub mod corpus;
pub mod hunt;
pub mod mutate;
mod targets;

pub use targets::TARGETS;

/// One parser, or a few of the same text.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also the name of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// What is parsed, and who chooses the bytes.
    pub about: &'static str,
    /// Parses the input, and says whether anything was read; panics where something doesn't hold.
    pub check: fn(&[u8]) -> bool,
    /// Inputs to begin with, made by what encodes them.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Most bytes that may be allocated, in all, for a byte of input; [`attempt::SLACK`] is free.
    pub factor: u64,
}

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// For libFuzzer: what a target checks of one input.
pub fn check(name: &str, input: &[u8]) {
    let target = target(name).unwrap_or_else(|| panic!("there is no target `{name}`"));
    // To libFuzzer what can't be read is as interesting as what can.
    let _ = (target.check)(input);
}
