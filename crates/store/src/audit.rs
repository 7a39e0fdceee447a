//! Whether the journal is what was written: its chain, its signed heads, its checkpoint, and heads that somebody else
//! kept. Works in pieces, so that other questions come between.
//!
//! ```text
//! checkpoint's signature ─▶ every row after it against its hash and the one before ─▶ every head against its row
//!                                                                                 └▶ every head that was brought along
//! ```
//! Against one who changes the files without the host key, the folder alone shows what was changed, left out or put in
//! another order, and a cut before its last head. Against one who also removes heads, or has the key, only a head that
//! was handed out before does.

use crate::Error;
use crate::chain::{Hash, hex};
use crate::checkpoint::{self, Checkpoint};
use crate::head::{self, SignedHead};
use crate::journal::{self, MAX_ROWS};
use crate::key::PublicKey;
use crate::reader::Reader;
use crate::record::{BadRow, Broken};

/// Findings beyond this many are counted alone.
pub const MAX_FINDINGS: usize = 20;

/// Heads that are checked in one piece; a signature costs more than a row.
const HEADS: u32 = 200;

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    pub journal: String,
    /// The host's public key, in hex.
    pub key: String,
    /// The row after which the rows begin: all before it are in the checkpoint.
    pub from: u64,
    /// The last row.
    pub last: u64,
    /// Heads in the journal, and heads brought along, that were checked.
    pub heads: u64,
    /// Heads brought along that are older than the oldest row, so that nothing can be said of them.
    pub too_old: u64,
    /// The first so many.
    pub findings: Vec<Finding>,
    /// All of them.
    pub found: u64,
}

impl Audit {
    pub fn is_sound(&self) -> bool {
        self.found == 0
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        self.found += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }
}

/// Something that isn't as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error("row {}: {}", .0.seq, .0.why)]
    Row(BadRow),
    #[error("the checkpoint at row {seq}: {why}")]
    Checkpoint { seq: u64, why: BadSeal },
    #[error("the signed head at row {seq}: {why}")]
    Head { seq: u64, why: BadSeal },
}

impl Finding {
    pub fn seq(&self) -> u64 {
        match self {
            Finding::Row(row) => row.seq,
            Finding::Checkpoint { seq, .. } | Finding::Head { seq, .. } => *seq,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSeal {
    #[error("its signature doesn't hold")]
    Forged,
    #[error("another key than this host's signed it")]
    Stranger,
    #[error("it is another journal's")]
    OtherJournal,
    #[error("the journal has another row at that number")]
    OtherRow,
    #[error("the journal ends before it, at row {last}")]
    Cut { last: u64 },
}

/// Against what heads are judged.
#[derive(Clone)]
pub(crate) struct Judge {
    pub journal: String,
    pub key: PublicKey,
}

pub(crate) enum Judged {
    Good,
    /// Of rows that are dropped.
    TooOld,
    Bad(BadSeal),
}

impl Judge {
    pub fn head(&self, reader: &Reader, held: &SignedHead) -> rusqlite::Result<Judged> {
        let bad = |why| Ok(Judged::Bad(why));
        let Some((said, key)) = held.open() else {
            return bad(BadSeal::Forged);
        };
        if held.journal != self.journal {
            return bad(BadSeal::OtherJournal);
        }
        if key != self.key {
            return bad(BadSeal::Stranger);
        }
        let conn = &reader.journal.conn;
        if said.seq < checkpoint::base(conn)?.seq {
            return Ok(Judged::TooOld);
        }
        let last = journal::head(conn)?.seq;
        if said.seq > last {
            return bad(BadSeal::Cut { last });
        }
        match journal::hash_of(conn, said.seq)? {
            Some(hash) if hash == said.hash => Ok(Judged::Good),
            _ => bad(BadSeal::OtherRow),
        }
    }

    /// The seq of the checkpoint's state, and what is wrong with it.
    pub fn checkpoint(&self, reader: &Reader) -> rusqlite::Result<Option<(u64, BadSeal)>> {
        let conn = &reader.journal.conn;
        let Some(found) = Checkpoint::read(conn)? else {
            return Ok(None);
        };
        let bad = |why| Ok(Some((found.at.seq, why)));
        if !found.holds(&self.journal) {
            return bad(BadSeal::Forged);
        }
        if found.key != self.key {
            return bad(BadSeal::Stranger);
        }
        let last = journal::head(conn)?.seq;
        if found.at.seq > last {
            return bad(BadSeal::Cut { last });
        }
        match journal::hash_of(conn, found.at.seq)? {
            Some(hash) if hash == found.at.hash => Ok(None),
            _ => bad(BadSeal::OtherRow),
        }
    }

    /// The journal's own heads after the nth, judged; and the n to go on from, if there are more.
    pub fn heads(&self, reader: &Reader, after: i64) -> Result<HeadsJudged, Error> {
        let error = reader.journal.error("reading the journal's heads");
        let kept = head::after(&reader.journal.conn, &self.journal, after, HEADS).map_err(error)?;
        let next = kept.last().map(|kept| kept.n);
        let mut judged = Vec::with_capacity(kept.len());
        for kept in kept {
            judged.push((kept.seq, self.head(reader, &kept.head).map_err(error)?));
        }
        Ok((judged, next))
    }
}

type HeadsJudged = (Vec<(u64, Judged)>, Option<i64>);

/// How far the walk came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    pub seq: u64,
    /// `None` until the row to begin after has been read.
    pub hash: Option<Hash>,
    /// The row that has to be there, and at which it may end.
    pub last: u64,
}

pub(crate) enum Walked {
    On(Walk),
    Sound,
    Bad(BadRow),
}

/// Checks the next rows.
pub(crate) fn walk(reader: &Reader, mut at: Walk) -> Result<Walked, Error> {
    let bad = |seq, why| Ok(Walked::Bad(BadRow { seq, why }));
    let error = reader.journal.error("verifying the journal");
    let base = checkpoint::base(&reader.journal.conn).map_err(error)?;
    if at.seq < base.seq {
        // What was dropped, before or while we walk, is in the checkpoint.
        (at.seq, at.hash) = (base.seq, Some(base.hash));
    }
    let known = match at.hash {
        Some(hash) => Some(hash),
        None => journal::hash_of(&reader.journal.conn, at.seq).map_err(error)?,
    };
    let Some(mut hash) = known else {
        return bad(at.seq, Broken::Missing);
    };
    if at.hash.is_some() && at.seq >= at.last {
        return Ok(Walked::Sound);
    }
    let rows = journal::raw(&reader.journal, at.seq, MAX_ROWS, None)?;
    if rows.is_empty() && at.seq >= at.last {
        return Ok(Walked::Sound);
    }
    if rows.is_empty() {
        return bad(at.seq + 1, Broken::Missing);
    }
    for row in rows {
        if row.seq != at.seq + 1 {
            return bad(at.seq + 1, Broken::Missing);
        }
        let expected = row.expected_hash();
        if row.hash != expected {
            return bad(row.seq, Broken::Changed);
        }
        if row.prev_hash != hash {
            return bad(row.seq, Broken::Unchained);
        }
        (at.seq, hash) = (row.seq, expected);
    }
    at.hash = Some(hash);
    Ok(Walked::On(at))
}

impl Judge {
    pub fn report(&self, reader: &Reader) -> rusqlite::Result<Audit> {
        let conn = &reader.journal.conn;
        Ok(Audit {
            journal: self.journal.clone(),
            key: hex(&self.key),
            from: checkpoint::base(conn)?.seq,
            last: journal::head(conn)?.seq,
            heads: 0,
            too_old: 0,
            findings: Vec::new(),
            found: 0,
        })
    }
}
