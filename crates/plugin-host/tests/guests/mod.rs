//! Guests written as WebAssembly text (`text`), and hosts that accept them.
#![allow(
    dead_code,
    unused_imports,
    clippy::allow_attributes,
    reason = "each test binary uses its part"
)]

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clawker_model::event::{ContainerOom, EgressDenied};
use clawker_model::{Event, FullName, Row};
use clawker_plugin_host::{Facts, Host, Limits, LoadError, Plugin, PolicyCall, PolicyHost, PolicyReply, Unavailable};

mod text;

pub use text::*;

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
