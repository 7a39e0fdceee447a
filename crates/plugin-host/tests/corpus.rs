//! The hostile corpus: each component is refused, or its call is, by name; the worker that it ran in lives, its neighbour
//! decides as before, and the memory is given back.

mod guests;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use clawker_plugin_host::limits::{MAX_COMPONENT, MAX_STATE, MAX_VERDICTS};
use clawker_plugin_host::worker::{Class, Workers, WorkersConfig};
use clawker_plugin_host::{Facts, Plugin, PolicyCall, PolicyHost};
use guests::{Data, component, described_policy, policy, text};

/// What a component is, and what is said about it: by `load`, or by the call if it loads.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    says: &'static str,
}

fn case(name: &'static str, bytes: Vec<u8>, says: &'static str) -> Case {
    Case { name, bytes, says }
}

/// A policy that does this when it is asked.
fn does(name: &'static str, body: &str, says: &'static str) -> Case {
    case(name, policy("", body, Data::default()), says)
}

/// A policy whose whole module is given, but for what every guest exports.
fn module(name: &'static str, fields: &str, says: &'static str) -> Case {
    let text = format!(
        r#"(module {fields}
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8))
        (func (export "describe") (result i32) (unreachable))
        (func (export "evaluate")
            (param i32 i32 i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (unreachable)))"#
    );
    case(name, component("policy", &text), says)
}

fn answers(name: &'static str, verdicts: usize, action: &str, state: [u32; 2], says: &'static str) -> Case {
    let mut data = Data::default();
    let decision = data.decision(verdicts, action, state);
    let body = format!("(drop (memory.grow (i32.const 512))) (i32.const {decision})");
    case(name, policy("", &body, data), says)
}

const LOG: &str = r#"(import "clawker:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
const SETTINGS: &str = r#"(import "clawker:plugin/settings@0.1.0" "get" (func $get (param i32)))"#;
const MEMORY: &str = r#"(memory (export "memory") 1)"#;

/// Components in components, so deep.
fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..depth {
        // Five bytes of LEB128, whatever the length.
        let len = |shift: usize| (bytes.len() >> shift) as u8 & 0x7f;
        let section = [4, len(0) | 0x80, len(7) | 0x80, len(14) | 0x80, len(21) | 0x80, 0];
        bytes = [b"\0asm\x0d\0\x01\0".as_slice(), &section, &bytes].concat();
    }
    bytes
}

fn forms() -> Vec<Case> {
    let good = policy("", "(unreachable)", Data::default());
    let wasm = |text: &str| wat::parse_str(text).expect("text");
    let import = |name: &str| {
        text(
            &format!(r#"(import "{name}" (instance (export "f" (func))))"#),
            &["describe", "evaluate"],
        )
    };
    let mut twice = good.clone();
    twice.extend_from_slice(&good);
    let mut section = good.clone();
    // A custom section that says to be longer than what follows.
    section.extend_from_slice(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1]);
    let many: String = (0..1200).map(|n| format!("(import \"a{n}\" (func))")).collect();
    vec![
        case("nothing", vec![], "not WebAssembly"),
        case("a script", b"#!/bin/sh\nexec id\n".to_vec(), "not WebAssembly"),
        case("an ELF file", b"\x7fELF\x02\x01\x01\0".to_vec(), "not WebAssembly"),
        case("64 MiB of zeros", vec![0; 64 << 20], "the limit is"),
        case("one byte too much", vec![0; MAX_COMPONENT + 1], "the limit is"),
        case("a core module", wasm("(module)"), "core WebAssembly module"),
        case("a header alone", b"\0asm\x0d\0\x01\0".to_vec(), "exports nothing"),
        case(
            "rubbish behind the header",
            b"\0asm\x0d\0\x01\0\xff\xff\xff".to_vec(),
            "malformed",
        ),
        case("half a component", good[..good.len() / 2].to_vec(), "malformed"),
        case("two components in one", twice, "malformed"),
        case("a section that is longer than the file", section, "malformed"),
        case("components in components", nested(200), "exports nothing"),
        case(
            "more than a thousand imports",
            wat::parse_str(format!("(component {many})")).expect("text"),
            "exports",
        ),
        case(
            "WASI's files",
            import("wasi:filesystem/types@0.2.6"),
            "may import `clawker:plugin/*` only",
        ),
        case(
            "WASI's sockets",
            import("wasi:sockets/tcp@0.2.6"),
            "may import `clawker:plugin/*` only",
        ),
        case(
            "a look-alike package",
            import("clawker:plugins/log@0.1.0"),
            "may import `clawker:plugin/*` only",
        ),
        case("a step's exec", import("clawker:plugin/exec@0.1.0"), "does not have"),
        case(
            "a step's secrets",
            import("clawker:plugin/secrets@0.1.0"),
            "does not have",
        ),
        case(
            "an interface that nobody has",
            import("clawker:plugin/root@0.1.0"),
            "does not have",
        ),
        case(
            "a version to come",
            import("clawker:plugin/log@9.0.0"),
            "speaks clawker:plugin@0.1.0",
        ),
        case(
            "two worlds at once",
            text("", &["describe", "evaluate", "run"]),
            "a step exports",
        ),
        case("a world without describe", text("", &["evaluate"]), "a step exports"),
        case(
            "the right names with wrong types",
            text("", &["describe", "evaluate"]),
            "compiling the component",
        ),
        case(
            "a name with a path in it",
            described_policy("../x", 0, "", "(unreachable)", Data::default()),
            "bad name",
        ),
        case(
            "a name in capitals",
            described_policy("X", 0, "", "(unreachable)", Data::default()),
            "bad name",
        ),
        case(
            "too many windows",
            described_policy("w", 17, "", "(unreachable)", Data::default()),
            "bad list of windows",
        ),
    ]
}

fn modules() -> Vec<Case> {
    let body = |fields: &str| format!("{MEMORY} {fields}");
    let start = |code: &str| body(&format!("(func $s {code}) (start $s)"));
    vec![
        module("a loop at birth", &start("(loop (br 0))"), "all its fuel"),
        module("a trap at birth", &start("(unreachable)"), "trapped"),
        module("recursion at birth", &start("(call $s)"), "stack"),
        module("memory at birth", r#"(memory (export "memory") 2000)"#, "more memory"),
        module(
            "more memory than a place has",
            r#"(memory (export "memory") 20000)"#,
            "memory",
        ),
        module("a table at birth", &body("(table 20000 funcref)"), "table"),
        module("a trap when asked what it is", MEMORY, "trapped"),
    ]
}

fn calls() -> Vec<Case> {
    let zeros = |n| "(i32.const 0) ".repeat(n);
    let itself = format!(
        "(call $evaluate {} (i64.const 0) (i64.const 0) {})",
        zeros(2),
        zeros(11)
    );
    let filled = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 1048576)) (br 0)";
    let mut text = Data::default();
    let bad = text.bytes(&[0xff, 0xfe]);
    let decision = text.decision(0, "", bad);
    let with = |name, imports: &str, body: &str, says| case(name, policy(imports, body, Data::default()), says);
    vec![
        does("a loop", "(loop (br 0)) (unreachable)", "all its fuel"),
        does(
            "a loop that fills memory",
            &format!("(loop {filled}) (unreachable)"),
            "all its fuel",
        ),
        does(
            "a loop that grows memory",
            "(loop (drop (memory.grow (i32.const 64))) (br 0)) (unreachable)",
            "more memory",
        ),
        does(
            "all memory at once",
            "(drop (memory.grow (i32.const 65000))) (unreachable)",
            "more memory",
        ),
        does("a trap", "(unreachable)", "trapped"),
        does(
            "a division by zero",
            "(i32.div_u (i32.const 1) (i32.const 0))",
            "trapped",
        ),
        does("a read outside of memory", "(i32.load (i32.const -4))", "trapped"),
        does(
            "a write outside of memory",
            "(i32.store (i32.const -4) (i32.const 1)) (i32.const 0)",
            "trapped",
        ),
        does("endless recursion", &itself, "stack"),
        does("an answer at the end of the world", "(i32.const -4)", ""),
        does("an answer that isn't aligned", "(i32.const 3)", ""),
        with(
            "a loop of log lines",
            LOG,
            "(loop (call $log (i32.const 0) (i32.const 0) (i32.const 1024)) (br 0)) (unreachable)",
            "more than 1024 calls",
        ),
        with(
            "a log line of 1 MiB",
            LOG,
            "(loop (call $log (i32.const 0) (i32.const 0) (i32.const 1048576)) (br 0)) (unreachable)",
            "more than 1024 calls",
        ),
        with(
            "a log line from outside of memory",
            LOG,
            "(call $log (i32.const 0) (i32.const -1) (i32.const 9)) (unreachable)",
            "",
        ),
        with(
            "a log level that nobody has",
            LOG,
            "(call $log (i32.const 77) (i32.const 0) (i32.const 0)) (unreachable)",
            "",
        ),
        with(
            "a loop of questions for settings",
            SETTINGS,
            "(loop (call $get (i32.const 65536)) (br 0)) (unreachable)",
            "more than 1024 calls",
        ),
        with(
            "settings put outside of memory",
            SETTINGS,
            "(call $get (i32.const -8)) (unreachable)",
            "",
        ),
        case(
            "a state that isn't text",
            policy("", &format!("(i32.const {decision})"), text),
            "",
        ),
        answers(
            "one verdict too many",
            MAX_VERDICTS + 1,
            "observe",
            [0, 0],
            "17 verdicts",
        ),
        answers("a million verdicts' worth", 1 << 10, &"x".repeat(100 << 10), [0, 0], ""),
        answers("an action that nobody has", 1, "explode", [0, 0], "no action `explode`"),
        answers("a release by a policy", 1, "release", [0, 0], "no action `release`"),
        answers(
            "a state over the cap",
            0,
            "",
            [64 << 10, MAX_STATE as u32 + 1],
            "the limit is 16384",
        ),
        answers("a state of 16 MiB", 0, "", [64 << 10, 16 << 20], ""),
        answers("a state that ends outside of memory", 0, "", [u32::MAX - 3, 8], ""),
    ]
}

struct Stage {
    workers: Workers,
    neighbour: Arc<Plugin>,
    pid: u32,
}

impl Stage {
    fn new() -> Self {
        let tests = std::env::current_exe().expect("this test");
        let built = tests.parent().and_then(|deps| deps.parent()).expect("its folder");
        let workers = Workers::new(WorkersConfig {
            program: PathBuf::from(built).join("examples/plugin-process"),
            policy: guests::POLICY,
            step: guests::STEP,
            ..WorkersConfig::of_this_program(HashSet::new())
        });
        let workers = workers.expect("workers");
        let mut data = Data::default();
        let decision = data.decision(1, "alert", [0, 0]);
        let good = described_policy("neighbour", 0, "", &format!("(i32.const {decision})"), data);
        let neighbour = workers.load(&good, Class::ThirdParty).expect("loads");
        let pid = workers.pids()[&Class::ThirdParty];
        Self {
            workers,
            neighbour,
            pid,
        }
    }

    /// What is said about the component.
    fn verdict(&self, bytes: &[u8]) -> String {
        match self.workers.load(bytes, Class::ThirdParty) {
            Err(error) => error.to_string(),
            Ok(plugin) => {
                let said = self.ask(&plugin);
                drop(plugin);
                self.workers.sweep();
                said.expect_err("it was answered")
            }
        }
    }

    fn ask(&self, plugin: &Arc<Plugin>) -> Result<usize, String> {
        let row = guests::oom();
        let reply = self.workers.evaluate(&PolicyCall {
            plugin: plugin.clone(),
            settings: "{}".into(),
            row: &row,
            facts: Facts::default(),
            state: String::new(),
        });
        reply
            .map(|reply| reply.verdicts.len())
            .map_err(|error| error.to_string())
    }

    fn is_as_before(&self, after: &str) {
        assert_eq!(self.ask(&self.neighbour), Ok(1), "the neighbour, after {after}");
        assert_eq!(
            self.workers.pids()[&Class::ThirdParty],
            self.pid,
            "the worker died of {after}"
        );
    }

    fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("its size");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

#[test]
fn every_hostile_component_is_refused_by_name_and_harms_nobody() {
    let stage = Stage::new();
    stage.is_as_before("nothing");
    let base = stage.rss_kib();
    let corpus: Vec<Case> = forms().into_iter().chain(modules()).chain(calls()).collect();
    assert!(corpus.len() >= 40, "{} cases", corpus.len());
    let mut wrong = Vec::new();
    for case in &corpus {
        let said = stage.verdict(&case.bytes);
        if said.is_empty() || said.len() > 4096 || !said.contains(case.says) {
            wrong.push(format!("{}: {said:.200}", case.name));
        }
        stage.is_as_before(case.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What a call wrote is given back, but for what the pool keeps warm: 256 KiB for each of its places.
    let after = stage.rss_kib();
    assert!(after < base + (32 << 10), "{base} KiB before, {after} KiB after");
}

#[test]
fn a_component_with_flipped_bits_is_refused_or_does_no_harm() {
    let stage = Stage::new();
    let mut data = Data::default();
    let decision = data.decision(1, "alert", [0, 0]);
    let good = policy(LOG, &format!("(i32.const {decision})"), data);
    // Each of these is compiled in a process of its own, so not every bit's turn comes.
    let mut refused = 0;
    for at in (8..good.len()).step_by(good.len() / 48) {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        match stage.workers.load(&flipped, Class::ThirdParty) {
            Err(_) => refused += 1,
            Ok(plugin) => {
                // In a text, say: then it is another honest policy, or one that isn't.
                let _ = stage.ask(&plugin);
                drop(plugin);
                stage.workers.sweep();
            }
        }
    }
    assert!(refused > 10, "{refused}");
    stage.is_as_before("flipped bits");
}
