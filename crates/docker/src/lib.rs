//! Docker: the engine's events as hints, containers, images, networks, logs and attached streams.
//!
//! The only crate that knows bollard; none of its types leave here. Every call has a deadline and names itself
//! and its object in its error. A container's configuration is built from scratch out of [`CreateContainer`]
//! (`hostconfig`, `mounts`): an option that isn't there can't be set. Events are hints: they may be lost, and
//! whoever needs to be right lists or inspects.
//!
//! Streams of bytes (attach, logs) go over a connection of our own (`raw`), because bollard's decoder takes a
//! terminal's bytes 0 to 2 for frame headers.
//!
//! ```text
//! calls ──► client ──► bollard ──► /var/run/docker.sock, or an address
//! attach, logs ──► raw (hyper) ──► demux ──► (StdStream, Bytes)
//! ```

mod archive;
mod attach;
mod client;
mod containers;
mod demux;
mod endpoint;
mod engine;
mod error;
mod events;
#[doc(hidden)]
pub mod fuzzing;
mod hostconfig;
mod images;
mod inspect;
mod logs;
mod mounts;
mod networks;
mod places;
mod publish;
mod raw;
mod shape;

pub use archive::PutFile;
pub use attach::{AttachReader, AttachWriter};
pub use client::{Docker, Limits};
pub use demux::StdStream;
pub use endpoint::{BadEndpoint, Endpoint};
pub use engine::EngineInfo;
pub use error::Error;
pub use events::{ContainerEvent, EventKind};
pub use hostconfig::{AGENT_DIR, CreateContainer, Mounted, RUN_DIR, SpecError, Unsafe};
pub use images::Image;
pub use inspect::{Inspect, InspectMount, Summary};
pub use logs::LogOptions;
pub use shape::Shape;
