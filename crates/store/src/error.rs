//! What can go wrong, said with the file it went wrong on and the next step. `Clone`, because one failed
//! transaction is the answer to every append that was in it.

use std::path::PathBuf;

use clawker_model::{ContainerId, Thumbprint};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("opening the store: `{}` is not a folder; create it first (owner root, mode 0700)", dir.display())]
    NoDir { dir: PathBuf },
    #[error(
        "opening the store: `{}` is in use by another control plane; stop that one, or give this one another --state-dir",
        dir.display()
    )]
    Locked { dir: PathBuf },
    /// Never repaired and never deleted by us: it is the only copy of what happened.
    #[error(
        "{doing}: `{}` is damaged ({detail}); put a backup of it in its place, or move it away to begin an empty journal \
         (agents are then attested anew, what contained them is lost)",
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
        "opening the store: `{}` was written by a newer clawker (schema {found}, this one knows {known}); install that version",
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
    #[error("the store is closed")]
    Closed,
}
