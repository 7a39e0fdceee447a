//! Guests written as WebAssembly text.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its part")]

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Static data of a guest, with what points to it.
#[derive(Default)]
pub struct Data {
    bytes: Vec<u8>,
}

/// Where the static data begins in a guest's memory; what a guest allocates comes after a whole page of it.
const BASE: u32 = 1024;

impl Data {
    pub fn bytes(&mut self, bytes: &[u8]) -> [u32; 2] {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        let at = BASE + self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        [at, bytes.len() as u32]
    }

    pub fn words(&mut self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bytes(&bytes)[0]
    }

    /// A `decision`: `verdicts` of an action without an allow list, and a state.
    pub fn decision(&mut self, verdicts: usize, action: &str, state: [u32; 2]) -> u32 {
        let ([action, len], [reason, reason_len]) = (self.bytes(action.as_bytes()), self.bytes(b"because"));
        let list = self.words(&[action, len, 0, 0, reason, reason_len].repeat(verdicts));
        self.words(&[list, verdicts as u32, state[0], state[1]])
    }

    /// A `description`; `kind` is 0 for a step, 1 for a policy. Its windows are of a minute, on the first event.
    fn description(&mut self, (name, version): (&str, &str), kind: u32, events: &[&str], windows: u32) -> u32 {
        let [name, name_len] = self.bytes(name.as_bytes());
        let [version, version_len] = self.bytes(version.as_bytes());
        let [schema, schema_len] = self.bytes(b"{}");
        let events_at: Vec<u32> = events.iter().flat_map(|event| self.bytes(event.as_bytes())).collect();
        let events_at = self.words(&events_at);
        let [counted, counted_len] = self.bytes(events.first().copied().unwrap_or_default().as_bytes());
        let windows_at = self.words(&[counted, counted_len, 60].repeat(windows as usize));
        let head = [name, name_len, version, version_len, kind, schema, schema_len];
        self.words(&[head.as_slice(), &[events_at, events.len() as u32, windows_at, windows]].concat())
    }

    fn text(&self) -> String {
        let bytes: String = self.bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        format!("(data (i32.const {BASE}) \"{bytes}\")")
    }
}

/// A policy that wants `ContainerOom`, with `evaluate` as given (15 parameters, the result is a pointer).
pub fn policy(imports: &str, evaluate: &str, data: Data) -> Vec<u8> {
    described_policy("hostile", 0, imports, evaluate, data)
}

pub fn described_policy(name: &str, windows: u32, imports: &str, evaluate: &str, data: Data) -> Vec<u8> {
    policy_on("ContainerOom", (name, "1"), windows, imports, evaluate, data)
}

fn policy_on(event: &str, said: (&str, &str), windows: u32, imports: &str, evaluate: &str, mut data: Data) -> Vec<u8> {
    let description = data.description(said, 1, &[event], windows);
    let text = format!(
        r#"(module {imports} {PRELUDE}
            (func (export "describe") (result i32) (i32.const {description}))
            (func $evaluate (export "evaluate")
                (param i32 i32 i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                {evaluate})
            {})"#,
        data.text()
    );
    component("policy", &text)
}

/// A policy, by name and version, that asks for an action from the nth such event within a minute on.
pub fn counts(said: (&str, &str), event: &str, nth: u64, action: &str) -> Vec<u8> {
    let mut data = Data::default();
    let state = data.bytes(b"seen");
    let (act, nothing) = (data.decision(1, action, state), data.decision(0, "", state));
    let evaluate = format!(
        "(if (result i32) (i64.ge_u (i64.load offset=16 (local.get 9)) (i64.const {nth}))
             (then (i32.const {act})) (else (i32.const {nothing})))"
    );
    policy_on(event, said, 1, "", &evaluate, data)
}

/// A step, with `run` as given (9 parameters, the result is a pointer).
pub fn step(imports: &str, run: &str, mut data: Data) -> Vec<u8> {
    let description = data.description(("hostile", "1"), 0, &[], 0);
    let text = format!(
        r#"(module {imports} {PRELUDE}
            (func (export "describe") (result i32) (i32.const {description}))
            (func (export "run") (param i32 i32 i32 i32 i32 i64 i32 i32 i32) (result i32) {run})
            {})"#,
        data.text()
    );
    component("step", &text)
}

/// Sixteen pages of memory and an allocator that never frees.
const PRELUDE: &str = r#"
    (memory (export "memory") 16)
    (global $heap (mut i32) (i32.const 524288))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
        (global.get $heap)
        (global.set $heap (i32.add (global.get $heap) (local.get 3))))"#;

pub fn component(world: &str, text: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).expect("the guest's text");
    let mut resolve = Resolve::default();
    // Of whichever crate's tests this is a part.
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let wit = here
        .map(|dir| dir.join("crates/plugin-sdk/wit"))
        .find(|wit| wit.is_dir());
    let wit = wit.expect("the WIT package's folder");
    let (package, _) = resolve.push_path(wit).expect("the WIT package");
    let world = resolve.select_world(&[package], Some(world)).expect("the world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("metadata");
    let mut encoder = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .expect("a guest of that world");
    encoder.encode().expect("a component")
}

/// A component by its text alone, whose exports may have any type.
pub fn text(imports: &str, exports: &[&str]) -> Vec<u8> {
    let exports: String = exports
        .iter()
        .map(|name| format!("(export \"{name}\" (func $f))"))
        .collect();
    let text = format!(
        r#"(component {imports}
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            {exports})"#
    );
    wat::parse_str(text).expect("the component's text")
}
