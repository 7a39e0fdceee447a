//! Why nothing was fetched, with the next step.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clawker_model::PluginDigest;

use crate::{MAX_REDIRECTS, PLUGIN_TYPE};

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("`{text:.200}` is no reference to a plugin: {problem}")]
    Reference { text: String, problem: String },
    #[error("{doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is {kind}, not a file", path.display())]
    NotAFile { path: PathBuf, kind: &'static str },
    #[error("{what} has {len} bytes, the limit is {max}")]
    TooLarge { what: String, len: u64, max: u64 },
    #[error("{what} goes on beyond the limit of {max} bytes")]
    Endless { what: String, max: u64 },
    #[error("{what} is no component: {problem}")]
    NotAComponent { what: String, problem: &'static str },
    #[error("{what} has another digest: sha256:{wanted} was asked for, sha256:{found} is what came")]
    Digest {
        what: String,
        wanted: PluginDigest,
        found: PluginDigest,
    },
    #[error("there is no component in {}: {problem}", dir.display())]
    NoComponent { dir: PathBuf, problem: String },
    #[error("{what} is ambiguous; name one of: {}", found.join(", "))]
    Several { what: String, found: Vec<String> },
    #[error("{what} is no plugin ({PLUGIN_TYPE}): {problem}")]
    NotAPlugin { what: String, problem: String },
    #[error("{what} can't be read: {problem}")]
    Malformed { what: String, problem: String },
    #[error("there is no {what}")]
    NotFound { what: String },
    #[error("{what} is refused to us ({status}): a file with `user:password` may be needed, or another one")]
    Denied { what: String, status: u16 },
    #[error("{what} was answered with the status {status}")]
    Status { what: String, status: u16 },
    #[error("{what}: no answer in time (waited {after:.1?})")]
    Slow { what: String, after: Duration },
    #[error("{what}: {problem}")]
    Unreachable { what: String, problem: String },
    #[error("{what} was redirected more than {MAX_REDIRECTS} times")]
    Redirects { what: String },
    #[error("{what} sends us to {to}, which isn't https")]
    Downgrade { what: String, to: String },
    #[error("the registry's credentials in {}: {problem}", path.display())]
    Credentials { path: PathBuf, problem: String },
    #[error("root certificates {from}: {problem}")]
    Roots { from: String, problem: String },
}

/// Characters of what a stranger says.
const MAX_SAID: usize = 1_000;

/// What a stranger says, for a terminal: no control characters, and no more than a few lines.
pub(crate) fn plain(said: impl ToString) -> String {
    let said = said.to_string();
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    said.chars().take(MAX_SAID).map(plain).collect()
}

impl SourceError {
    pub(crate) fn malformed(what: &str, problem: impl ToString) -> Self {
        Self::Malformed {
            what: what.to_owned(),
            problem: plain(problem),
        }
    }

    /// Whether there simply is nothing.
    pub fn is_absent(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}
