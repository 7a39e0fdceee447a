//! What a [`Store`] does to prove and to bound its journal: heads, audits, retention, cursors, backups.

use std::path::Path;

use tokio::sync::oneshot;

use crate::audit::{Audit, Finding, Judge, Judged, Walk, Walked, walk};
use crate::chain::hex;
use crate::record::{BadRow, Placed};
use crate::retain::{self, CHUNK, Limits, Retained};
use crate::writer::{Command, Reply};
use crate::{Cursor, Error, Resync, ResyncReason, SignedHead, Store, backup, checkpoint, head, journal, reader};

impl Store {
    async fn order<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(command(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Signs the end of the journal, unless its last head is that; returned once it survives a power cut.
    pub async fn seal(&self) -> Result<SignedHead, Error> {
        let head = self.order(Command::Seal).await?;
        // One of rows that a power cut takes would accuse the host of a cut.
        self.wait_synced(head.seq).await?;
        Ok(head)
    }

    /// The place of a row in this journal; `None` if there is no such row. Row 0, and the last one that was dropped, are
    /// the places before all.
    pub async fn cursor(&self, seq: u64) -> Result<Option<Cursor>, Error> {
        if let Some(hash) = self.shared.recent(seq).filter(|_| seq > self.shared.base()) {
            return Ok(Some(self.place(seq, &hash)));
        }
        let hash = reader::ask(&self.reader, move |r| {
            journal::hash_of(&r.journal.conn, seq).map_err(r.journal.error("reading a cursor"))
        })
        .await?;
        Ok(hash.map(|hash| self.place(seq, &hash)))
    }

    /// The place after which there are rows.
    pub async fn oldest(&self) -> Result<Cursor, Error> {
        let base = reader::ask(&self.reader, move |r| {
            checkpoint::base(&r.journal.conn).map_err(r.journal.error("reading a cursor"))
        })
        .await?;
        Ok(self.place(base.seq, &base.hash))
    }

    /// Why one can't go on from a cursor; `None` if one can.
    pub async fn resync(&self, cursor: &Cursor) -> Result<Option<Resync>, Error> {
        let from = self.oldest().await?;
        let reason = if cursor.journal != self.journal_id() {
            ResyncReason::OtherJournal
        } else if cursor.seq < from.seq {
            ResyncReason::Dropped
        } else if cursor.seq > self.last_seq() {
            ResyncReason::Ahead
        } else if self.cursor(cursor.seq).await?.as_ref() != Some(cursor) {
            ResyncReason::OtherHistory
        } else {
            return Ok(None);
        };
        Ok(Some(Resync { reason, from }))
    }

    fn place(&self, seq: u64, hash: &[u8]) -> Cursor {
        Cursor {
            journal: self.id.to_string(),
            seq,
            hash: hex(hash),
        }
    }

    pub(crate) fn placed(&self, (row, hash): (clawker_model::Row, Vec<u8>)) -> Placed {
        Placed {
            cursor: self.place(row.seq, &hash),
            row,
        }
    }

    /// The first row after `after` at which the hash chain doesn't hold; `None` if it holds to the end.
    pub async fn verify_chain(&self, after: u64) -> Result<Option<BadRow>, Error> {
        self.walk(after, self.last_seq()).await
    }

    async fn walk(&self, after: u64, last: u64) -> Result<Option<BadRow>, Error> {
        let mut at = Walk {
            seq: after,
            hash: None,
            last,
        };
        loop {
            match reader::ask(&self.reader, move |r| walk(r, at)).await? {
                Walked::On(further) => at = further,
                Walked::Sound => return Ok(None),
                Walked::Bad(row) => return Ok(Some(row)),
            }
        }
    }

    fn judge(&self) -> Judge {
        Judge {
            journal: self.id.to_string(),
            key: self.shared.key,
        }
    }

    /// Checks all that can be checked, also against heads that were handed out earlier.
    pub async fn audit(&self, held: Vec<SignedHead>) -> Result<Audit, Error> {
        let judge = self.judge();
        let begin = judge.clone();
        let (mut audit, checkpoint) = reader::ask(&self.reader, move |r| {
            let error = r.journal.error("reading the journal");
            Ok((begin.report(r).map_err(error)?, begin.checkpoint(r).map_err(error)?))
        })
        .await?;
        if let Some((seq, why)) = checkpoint {
            audit.add(Finding::Checkpoint { seq, why });
        }
        if let Some(row) = self.walk(audit.from, self.last_seq()).await? {
            audit.add(Finding::Row(row));
        }
        let mut note = |seq, judged| match judged {
            Judged::Good => audit.heads += 1,
            Judged::TooOld => audit.too_old += 1,
            Judged::Bad(why) => {
                audit.heads += 1;
                audit.add(Finding::Head { seq, why });
            }
        };
        self.own_heads(&judge, u64::MAX, &mut note).await?;
        for head in held {
            let (judge, seq) = (judge.clone(), head.seq);
            let judged = reader::ask(&self.reader, move |r| {
                let error = r.journal.error("reading the journal");
                judge.head(r, &head).map_err(error)
            });
            note(seq, judged.await?);
        }
        Ok(audit)
    }

    /// Judges the journal's own heads up to a seq.
    async fn own_heads(&self, judge: &Judge, up_to: u64, note: &mut impl FnMut(u64, Judged)) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let judge = judge.clone();
            let (judged, next) = reader::ask(&self.reader, move |r| judge.heads(r, after)).await?;
            for (seq, judged) in judged.into_iter().filter(|(seq, _)| *seq <= up_to) {
                // A crash between a checkpoint and its drop leaves heads of rows that are dropped.
                if !matches!(judged, Judged::TooOld) {
                    note(seq, judged);
                }
            }
            match next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    /// Heads in the order in which they were signed: at most 200 after the nth, each with its n.
    pub async fn heads(&self, after: i64) -> Result<Vec<(i64, SignedHead)>, Error> {
        let id = self.id.clone();
        let kept = reader::ask(&self.reader, move |r| {
            head::after(&r.journal.conn, &id, after, 200).map_err(r.journal.error("reading the journal's heads"))
        });
        Ok(kept.await?.into_iter().map(|kept| (kept.n, kept.head)).collect())
    }

    /// Rows after a seq as they are stored, each as one line of JSON with all that its hash covers.
    pub async fn export(&self, after: u64, limit: u32) -> Result<Vec<(u64, String)>, Error> {
        let id = self.id.clone();
        reader::ask(&self.reader, move |r| {
            let rows = journal::raw(&r.journal, after, limit, None)?;
            Ok(rows.iter().map(|row| (row.seq, backup::line(row, &id))).collect())
        })
        .await
    }

    /// Drops what is older or more than the limits, behind a signed checkpoint. What doesn't verify is kept, and
    /// [`Error::Tampered`] says so. One run at a time: who calls it owns that.
    pub async fn retain(&self, limits: Limits, now_ms: u64) -> Result<Retained, Error> {
        let (due, left_over) = reader::ask(&self.reader, move |r| {
            let error = r.journal.error("looking for old rows");
            let due = retain::due(&r.journal.conn, &limits, now_ms).map_err(error)?;
            Ok((due, retain::left_over(&r.journal.conn).map_err(error)?))
        })
        .await?;
        if let Some(to) = due {
            self.refuse_tampered(to.seq).await?;
            self.order(|reply| Command::Condense(to, reply)).await?;
        }
        let mut dropped = 0;
        while due.is_some() || left_over {
            let some = self.order(Command::Drop).await?;
            dropped += some;
            if some < CHUNK {
                break;
            }
        }
        let from = self.shared.base();
        Ok(Retained { dropped, from })
    }

    async fn refuse_tampered(&self, up_to: u64) -> Result<(), Error> {
        let tampered = |finding: Finding| Error::Tampered {
            finding: finding.to_string(),
        };
        if let Some(row) = self.walk(self.shared.base(), up_to).await? {
            return Err(tampered(Finding::Row(row)));
        }
        let mut found = None;
        // A lost host key is no reason to let the disk fill.
        self.own_heads(&self.judge(), up_to, &mut |seq, judged| {
            if let Judged::Bad(why) = judged
                && why != crate::BadSeal::Stranger
            {
                found.get_or_insert(Finding::Head { seq, why });
            }
        })
        .await?;
        found.map_or(Ok(()), |finding| Err(tampered(finding)))
    }

    /// Writes a consistent copy of the journal, with a head at its end, to a file that doesn't exist yet (0600); returns
    /// that head. The projection isn't copied: it is made anew from this.
    pub async fn backup(&self, file: &Path) -> Result<SignedHead, Error> {
        self.seal().await?;
        let (dir, file, id) = (self.dir.clone(), file.to_owned(), self.id.clone());
        let copied = tokio::task::spawn_blocking(move || backup::copy(&dir, &file, &id));
        copied.await.map_err(|_| Error::Closed)?
    }
}
