//! Guests written as WebAssembly text, and hosts that accept them.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its part")]

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clawker_model::event::{ContainerOom, EgressDenied};
use clawker_model::{Event, FullName, Row};
use clawker_plugin_host::{Facts, Host, Limits, LoadError, Plugin, PolicyCall, PolicyHost, PolicyReply, Unavailable};
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

    /// A `description`; `kind` is 0 for a step, 1 for a policy.
    fn description(&mut self, name: &str, kind: u32, events: &[&str], windows: u32) -> u32 {
        let ([name, name_len], [version, version_len]) = (self.bytes(name.as_bytes()), self.bytes(b"1"));
        let [schema, schema_len] = self.bytes(b"{}");
        let events_at: Vec<u32> = events.iter().flat_map(|event| self.bytes(event.as_bytes())).collect();
        let events_at = self.words(&events_at);
        let [oom, oom_len] = self.bytes(b"ContainerOom");
        let windows_at = self.words(&[oom, oom_len, 60].repeat(windows as usize));
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

pub fn described_policy(name: &str, windows: u32, imports: &str, evaluate: &str, mut data: Data) -> Vec<u8> {
    let description = data.description(name, 1, &["ContainerOom"], windows);
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

/// A step, with `run` as given (9 parameters, the result is a pointer).
pub fn step(imports: &str, run: &str, mut data: Data) -> Vec<u8> {
    let description = data.description("hostile", 0, &[], 0);
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
    let wit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk/wit");
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

/// Fuel decides in tests too: the walls are far.
pub const POLICY: Limits = Limits {
    wall: Duration::from_secs(120),
    ..Limits::POLICY
};
pub const STEP: Limits = Limits {
    wall: Duration::from_secs(120),
    fuel: 50_000_000,
    ..Limits::STEP
};

pub fn host_for(components: &[&[u8]]) -> Host {
    let accepted: HashSet<_> = components
        .iter()
        .map(|bytes| clawker_plugin_host::digest(bytes))
        .collect();
    Host::with_limits(accepted, POLICY, STEP).expect("an engine")
}

pub fn load(bytes: &[u8]) -> Result<(Host, Arc<Plugin>), LoadError> {
    let host = host_for(&[bytes]);
    let plugin = host.load(bytes)?;
    Ok((host, plugin))
}

pub fn row(event: impl Into<Event>) -> Row {
    let agent = Some(FullName::parse("clawker.p.a").expect("name"));
    Row {
        seq: 7,
        at_ms: 1000,
        cp_life: "life".into(),
        agent,
        event: event.into(),
    }
}

pub fn oom() -> Row {
    let container = clawker_model::ContainerId::parse(&"0".repeat(64)).expect("id");
    row(ContainerOom { container })
}

pub fn denied() -> Row {
    row(EgressDenied { count: 1, total: 1 })
}

/// Asks about an out-of-memory kill.
pub fn ask(host: &Host, plugin: &Arc<Plugin>) -> Result<PolicyReply, Unavailable> {
    let (settings, state) = ("{}".into(), String::new());
    let row = oom();
    host.evaluate(&PolicyCall {
        plugin: plugin.clone(),
        settings,
        row: &row,
        facts: Facts::default(),
        state,
    })
}

/// Loads a policy and asks it.
pub fn asked(bytes: &[u8]) -> Result<PolicyReply, Unavailable> {
    let (host, plugin) = load(bytes).expect("loads");
    let answer = ask(&host, &plugin);
    // Whatever it did, the host goes on and the next call is a fresh one.
    assert_eq!(answer.as_ref().err(), ask(&host, &plugin).as_ref().err());
    answer
}

/// A component that `cargo xtask plugins` built.
pub fn first_party(name: &str) -> Vec<u8> {
    let libexec = match std::env::var_os("CLAWKER_LIBEXEC") {
        Some(dir) => PathBuf::from(dir),
        None => match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => PathBuf::from(dir).join("clawker/libexec"),
            None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/clawker/libexec"),
        },
    };
    let path = libexec.join("plugins").join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}: run `cargo xtask plugins`", path.display()))
}
