//! What can go wrong in a namespace, and where.

use std::io;

use crate::NetnsKey;

/// Every variant says what was attempted on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("starting the netfilter thread: {0}")]
    Thread(io::Error),
    #[error("the netfilter thread is gone")]
    Gone,
    /// The kernel, or our permission, can't do what containment needs.
    #[error("this kernel lacks {feature}: {source}; {hint}")]
    Lacking {
        feature: &'static str,
        hint: &'static str,
        source: Box<Error>,
    },
    #[error("namespace {} of start {} isn't attached", .0.inode, .0.start)]
    NotAttached(NetnsKey),
    #[error("{what} network namespace: {source}")]
    Namespace { what: &'static str, source: io::Error },
    #[error("it shares the control plane's own network namespace, which is never restricted or locked")]
    OwnNamespace,
    #[error("{what} over netlink: {source}")]
    Netlink { what: &'static str, source: io::Error },
    #[error("netlink answered {what} with {problem}")]
    Malformed { what: &'static str, problem: String },
    #[error("{what}: {n} is more than {max}")]
    TooMany { what: &'static str, n: usize, max: usize },
    /// The kernel took it and has something else.
    #[error("asked for {asked}, read {read}")]
    NotAsAsked { asked: String, read: String },
}
