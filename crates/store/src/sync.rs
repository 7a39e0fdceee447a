//! The sync thread: makes committed rows survive a power cut.
//!
//! A commit writes the WAL and doesn't sync it (synchronous NORMAL). This thread calls fdatasync on the WAL
//! once for all rows committed since, so that many waiters share one sync and the writer waits for none. Between
//! two it rests for four times what the last one took, [`MOST`] at most: a disk that syncs in 0.1 ms answers a
//! chain of dependent appends in well under a millisecond each, one that takes 5 ms is kept busy half its time. Rows that a checkpoint has moved to `journal.db` were synced there by SQLite before
//! it used the WAL anew.
//!
//! A failed fdatasync may have dropped the pages while the next one succeeds, so it is never just repeated:
//! the writer is asked to copy the WAL into the database and sync that, and until it has, nothing counts as
//! synced.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::WeakSender;

use crate::Error;
use crate::faults::{Faults, Point};
use crate::shared::Shared;
use crate::writer::Command;

const MOST: Duration = Duration::from_millis(5);
const RETRY: Duration = Duration::from_millis(500);

pub(crate) struct Sync {
    pub wal: File,
    pub file: PathBuf,
    pub shared: Arc<Shared>,
    pub writer: WeakSender<Command>,
    pub faults: Faults,
}

impl Sync {
    pub fn run(self) {
        let mut synced = *self.shared.synced.borrow();
        loop {
            let end = self.shared.wait_beyond(synced);
            if end.committed <= synced {
                return;
            }
            let began = Instant::now();
            // Read before the sync: what is committed while it runs may not be covered.
            match self.sync() {
                Ok(()) => {
                    synced = end.committed;
                    self.shared.publish_synced(synced);
                }
                Err(e) => {
                    tracing::error!(error = %e, "journal rows can't be made durable");
                    self.shared.sync_failed.send_replace(Some(e));
                    if !self.recover() {
                        return;
                    }
                    synced = *self.shared.synced.borrow();
                }
            }
            self.shared.wait_closed((began.elapsed() * 4).min(MOST));
        }
    }

    fn sync(&self) -> Result<(), Error> {
        let done = if self.faults.strikes(Point::Sync) {
            Err(std::io::Error::other("fault"))
        } else {
            self.wal.sync_data()
        };
        done.map_err(|e| Error::Io {
            doing: "syncing",
            file: self.file.clone(),
            detail: e.to_string(),
        })
    }

    /// Until the writer has put all into the database; `false` when the store closes first.
    fn recover(&self) -> bool {
        loop {
            if let Some(writer) = self.writer.upgrade() {
                // A full queue is as good as a failed try: the next one comes.
                let _ = writer.try_send(Command::Checkpoint);
            }
            if self.shared.wait_closed(RETRY) {
                return false;
            }
            if self.shared.sync_failed.borrow().is_none() {
                return true;
            }
        }
    }
}
