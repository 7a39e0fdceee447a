//! A place in one particular journal, and what it means that a journal doesn't have it.

use std::fmt;
use std::str::FromStr;

use crate::chain::{hex, unhex};

/// A place in one particular journal. Another id or hash at the same seq is another history. As text it is
/// `<journal id>/<seq>/<hash>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub journal: String,
    pub seq: u64,
    /// SHA-256, in hex; zeros before the first row.
    pub hash: String,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.journal, self.seq, self.hash)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no cursor: it is `<journal id>/<number>/<hash>`, as `clawker events --json` prints it")]
pub struct BadCursor(String);

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bad = || BadCursor(text.chars().take(160).collect());
        let mut parts = text.split('/');
        let (Some(journal), Some(seq), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let journal: [u8; 16] = unhex(journal).ok_or_else(bad)?;
        let hash: [u8; 32] = unhex(hash).ok_or_else(bad)?;
        // `+7` and `007` parse as numbers too.
        let number: u64 = seq.parse().map_err(|_| bad())?;
        if number.to_string() != seq {
            return Err(bad());
        }
        Ok(Self {
            journal: hex(&journal),
            seq: number,
            hash: hex(&hash),
        })
    }
}

/// A cursor can't be gone on from: whoever holds it begins anew, at `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resync {
    pub reason: ResyncReason,
    /// The place before the oldest row that there is.
    pub from: Cursor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResyncReason {
    #[error("the cursor is another journal's")]
    OtherJournal,
    /// Rows were changed, or written anew after a power cut or an older backup.
    #[error("the journal has another row at that number")]
    OtherHistory,
    #[error("the journal ends before that number")]
    Ahead,
    #[error("the rows after that number are older than the journal keeps them")]
    Dropped,
}

impl ResyncReason {
    /// The word for programs.
    pub fn name(self) -> &'static str {
        match self {
            ResyncReason::OtherJournal => "other-journal",
            ResyncReason::OtherHistory => "other-history",
            ResyncReason::Ahead => "ahead",
            ResyncReason::Dropped => "dropped",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(journal: [u8; 16], seq: u64, hash: [u8; 32]) {
            let cursor = Cursor { journal: hex(&journal), seq, hash: hex(&hash) };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn no_text_is_more_than_refused(text: String) {
            prop_assert!(text.parse::<Cursor>().is_err());
        }
    }

    #[test]
    fn a_cursor_has_one_way_of_being_written() {
        let (id, hash) = ("a".repeat(32), "b".repeat(64));
        for bad in [
            format!("{id}/+1/{hash}"),
            format!("{id}/01/{hash}"),
            format!("{id}/1/{hash}/"),
            format!("{id}/1/{}", &hash[1..]),
            format!("{}/1/{hash}", "A".repeat(32)),
            format!("{id}/18446744073709551616/{hash}"),
            format!("/{id}/1/{hash}"),
            format!("{id}/1"),
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
