//! The commands, whole, against a fake control plane in this process.

mod agents;
mod docs;
mod exec;
mod fake;
#[path = "../../../plugin-host/tests/guests/mod.rs"]
mod guests;
mod installed;
mod journal;
mod lifecycle;
mod listings;
mod parsing;
mod plugin;
mod project;
mod running;
mod stage;
mod terminal;
