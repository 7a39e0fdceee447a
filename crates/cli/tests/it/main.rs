//! The commands, whole, against a fake control plane in this process.

mod agents;
mod docs;
mod exec;
mod fake;
mod journal;
mod lifecycle;
mod listings;
mod parsing;
mod project;
mod running;
mod stage;
mod terminal;
