//! The operator's surface: `AdminService` on a unix socket.
//!
//! Turns requests into calls of the other parts and their answers into messages; owns no state of agents.
//! Every change is journaled as `OperatorCommand` before it is made, without any secret's content. Every error
//! says what it is about, which exit code it is for the command line, and what to do next (`error`).
//!
//! ```text
//! clawker ──unix socket──► socket (who is it?) ──► service ──┬─ create, lifecycle ──► docker, store, agents
//!                                                            ├─ contain ──► containment
//!                                                            ├─ exec, attach, logs ──► session, docker
//!                                                            └─ events, status ◄── store, agents, board
//! ```

mod absence;
mod attach;
mod audit;
mod authority;
mod backup;
mod contain;
pub(crate) mod container;
mod create;
mod egress;
mod error;
mod events;
mod exec;
mod exec_relay;
mod exec_spec;
mod exec_stdin;
mod follow;
mod lifecycle;
mod limits;
mod logs;
mod merge;
mod naming;
mod plugins;
mod project;
mod resolve;
mod restarts;
mod secrets;
mod service;
mod shutdown;
mod socket;
mod status;
mod steps;
mod tail;

pub use error::Fault;
pub use service::serve;
pub use socket::{AdminError, Peer};
