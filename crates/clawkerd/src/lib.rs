//! clawkerd: PID 1 of every agent container, small and static.
//!
//! ```text
//!  control plane                         the container
//!  session.sock  <---- connects --------  PID 1 (init)   one thread, no async, no TLS: reaps, owns every wait,
//!       |                                   |   ^        pipe and pty, runs the agent's command
//!       |            SCM_RIGHTS: connection |   | SOCK_SEQPACKET: requests, heartbeats
//!       |            and bundle, rings      v   |
//!       +------- TLS, gRPC -------------  session half   tokio; SIGKILL costs nothing but a reconnect
//! ```
//!
//! [`init`] is PID 1, [`session`] the half that it starts, [`halves`] what they say to each other, [`doctor`] what a
//! person asks when neither runs. None calls a
//! name service: addresses and ids are numbers, users come from the image's files by our own parser.

pub mod cli;
pub mod confined;
#[cfg(debug_assertions)]
pub mod counting;
pub mod doctor;
pub mod halves;
pub mod init;
pub mod ring;
pub mod session;
pub mod user;
pub mod version;

/// What `--version` and HelloAck say.
pub const BUILD: &str = clawker_wire::CLAWKERD;
