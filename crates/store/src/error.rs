//! What can go wrong, said with the file it went wrong on and the next step. `Clone`, because one failed
//! transaction is the answer to every append that was in it.

use std::path::PathBuf;

use clawker_model::{ContainerId, FullName, NameError, Thumbprint};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("opening the store: `{}` is not a folder; create it first (owner root, mode 0700)", dir.display())]
    NoDir { dir: PathBuf },
    #[error(
        "opening the store: `{}` is in use by another control plane; stop that one, or give this one another --state-dir",
        dir.display()
    )]
    Locked { dir: PathBuf },
    #[error(
        "opening the store: `{}` can't be written ({detail}); mount it writable, or `chown root {0}` and `chmod 0711 {0}`",
        dir.display()
    )]
    ReadOnly { dir: PathBuf, detail: String },
    /// Never repaired and never deleted by us: it is the only copy of what happened.
    #[error(
        "{doing}: `{}` is damaged ({detail}); put a backup of it in its place with `clawker restore --force FILE`, or move \
         it away to begin an empty journal (agents are then attested anew, what contained them is lost)",
        file.display()
    )]
    JournalCorrupt {
        doing: &'static str,
        file: PathBuf,
        detail: String,
    },
    #[error("{doing}: `{}` is damaged ({detail}); restart the control plane, which rebuilds it from the journal", file.display())]
    StateCorrupt {
        doing: &'static str,
        file: PathBuf,
        detail: String,
    },
    #[error(
        "opening the store: `{}` was written by a newer clawker (schema {found}, this one knows {known}); install that version, \
         or put an older backup in its place with `clawker restore --force FILE`",
        file.display()
    )]
    Newer { file: PathBuf, found: i64, known: i64 },
    /// Nothing of the append was written.
    #[error("{doing}: no room for `{}`; free some, then try again", file.display())]
    Full { doing: &'static str, file: PathBuf },
    #[error("{doing}: `{}`: {detail}", file.display())]
    Io {
        doing: &'static str,
        file: PathBuf,
        detail: String,
    },
    #[error("appending {kind}: its body is {bytes} bytes, the limit is {limit}")]
    TooLarge {
        kind: &'static str,
        bytes: usize,
        limit: usize,
    },
    #[error("appending {kind}: it can't be written as JSON: {detail}")]
    Encode { kind: &'static str, detail: String },
    /// A row that this version doesn't understand, or that is damaged.
    #[error("reading journal row {seq} ({kind}): {detail}; a newer clawker may have written it")]
    Unreadable { seq: u64, kind: String, detail: String },
    #[error("registering container {}: thumbprint {thumbprint} is already that of container {}", container.short(), held_by.short())]
    ThumbprintTaken {
        thumbprint: Thumbprint,
        container: ContainerId,
        held_by: ContainerId,
    },
    /// Nothing of the append was written.
    #[error("registering: the token was spent already")]
    TokenSpent,
    #[error(
        "registering container {}: generation {generation} was superseded by or is another key's than {held}, which is registered",
        container.short()
    )]
    GenerationReplayed {
        container: ContainerId,
        generation: u64,
        held: u64,
    },
    #[error("registering an agent: {0}")]
    Name(#[from] NameError),
    /// A mistake in the program that asked.
    #[error("registering {name}: {what}")]
    BadCandidate { name: FullName, what: &'static str },
    /// One answer for never registered, evicted and another name than the leaf's, so that nobody learns which.
    #[error("no agent of that identity is registered")]
    UnknownAgent,
    /// Never replaced by us: heads that it signed would be a stranger's.
    #[error(
        "opening the store: the host key `{}` is damaged ({detail}); put it back with `clawker restore`, or move it away \
         for a new one (what the old one signed is then reported as a stranger's)",
        file.display()
    )]
    HostKey { file: PathBuf, detail: String },
    /// What would be dropped isn't what was written, so it is kept as evidence.
    #[error("dropping old rows of the journal: {finding}; none is dropped: `clawker audit verify` tells more")]
    Tampered { finding: String },
    #[error("the store is closed")]
    Closed,
}

impl Error {
    pub(crate) fn io(doing: &'static str, file: &std::path::Path, e: &std::io::Error) -> Self {
        Error::Io {
            doing,
            file: file.to_owned(),
            detail: e.to_string(),
        }
    }

    /// Whether the request was judged and found wanting, as opposed to a fault that another try may not meet: over
    /// gRPC the one is `PermissionDenied`, the other `Unavailable`. A spent token is of the others: the next one may do.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Error::ThumbprintTaken { .. }
                | Error::GenerationReplayed { .. }
                | Error::Name(_)
                | Error::BadCandidate { .. }
                | Error::UnknownAgent
        )
    }
}
