//! What can go wrong, in words for people.

use clawker_model::PluginDigest;

use crate::limits::MAX_COMPONENT;

/// The host itself can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("setting up the WebAssembly engine: {0}")]
    Engine(String),
    #[error("starting the plugin clock thread: {0}")]
    Ticker(#[source] std::io::Error),
    #[error("the folder of compiled plugins, {}: {source}", path.display())]
    Kept {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
}

/// A component was refused. Nothing of it has run, except `describe` for the last two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("the component has {len} bytes, the limit is {MAX_COMPONENT}")]
    TooLarge { len: usize },
    #[error("this is not WebAssembly: it does not begin with `\\0asm`")]
    NotWasm,
    #[error("this is a core WebAssembly module, not a component; componentise it (`cargo xtask plugins` shows how)")]
    CoreModule,
    #[error("the component is malformed: {0}")]
    Malformed(String),
    #[error("the component imports `{name}`; a plugin may import `clawker:plugin/*` only (build it without WASI)")]
    ForeignImport { name: String },
    #[error("the component imports `{name}`, which the world `{world}` does not have")]
    ImportNotInWorld { name: String, world: &'static str },
    #[error("the component imports `{name}`; this host speaks clawker:plugin@0.1.0 (rebuild it with that plugin SDK)")]
    Version { name: String },
    #[error("the component exports {found}; a step exports `describe` and `run`, a policy `describe` and `evaluate`")]
    WrongWorld { found: String },
    #[error(
        "plugin digest {digest} is not accepted: only this release's own plugins are; rebuild with `cargo xtask plugins`"
    )]
    NotAccepted { digest: PluginDigest },
    #[error("the plugin wants {wanted} {what} a call; a host gives 1 to {most}")]
    Limit { what: &'static str, wanted: u64, most: u64 },
    #[error("compiling the component: {0}")]
    Compile(String),
    #[error("asking the plugin to describe itself: {0}")]
    Describe(Unavailable),
    #[error("the plugin describes itself with a bad {field}: {problem}")]
    Description { field: &'static str, problem: String },
}

/// A plugin gave no answer. An input to the caller's decision, never a failure of the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum Unavailable {
    #[error("the plugin used all its fuel")]
    Fuel,
    #[error("the plugin took longer than its wall limit")]
    Wall,
    #[error("the plugin wanted more memory than its limit")]
    Memory,
    #[error("the plugin trapped: {0}")]
    Trap(String),
    #[error("the plugin answered out of bounds: {0}")]
    BadOutput(String),
    #[error("the plugin is not loaded for this call")]
    Missing,
    #[error("the plugin's worker: {0}")]
    Worker(String),
}
