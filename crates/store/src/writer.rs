//! The writer thread: sole owner of both writing connections and of the journal's head.
//!
//! ```text
//!   queue → BEGIN journal, BEGIN state → for each: admit, insert, apply → COMMIT journal → COMMIT state
//!                 │ any error: both roll back, nobody's row exists          │                 │ error
//!                 └ a batch is then tried again one by one                  ▼                 ▼
//!                                                                     the rows are      behind: the rows are
//!                                                                     facts             facts, reads wait for
//!                                                                                       catch_up, as at open
//! ```
//! What is queued together is committed together. Rows are broadcast in order, after both commits, and only
//! then is the append answered.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use clawker_model::Row;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::Error;
use crate::chain::Head;
use crate::db::Db;
use crate::faults::{Faults, Point};
use crate::journal::{self, Encoded};
use crate::projection::{self, Fact};
use crate::replay;
use crate::shared::Shared;

/// The most rows of one transaction.
const BATCH: usize = 256;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(crate) enum Command {
    Append(Box<Append>),
    /// Applies what the projection lacks.
    CatchUp(Reply<()>),
    /// Moves the WAL into the database and syncs it.
    Checkpoint,
    Close(oneshot::Sender<()>),
    #[cfg(test)]
    Test(Box<dyn FnOnce(&Writer) + Send>),
}

pub(crate) struct Append {
    pub entry: Encoded,
    pub reply: Reply<Arc<Row>>,
}

pub(crate) struct Writer {
    pub journal: Db,
    pub state: Db,
    pub head: Head,
    pub cp_life: String,
    pub shared: Arc<Shared>,
    pub bus: broadcast::Sender<Arc<Row>>,
    pub faults: Faults,
    pub sync: JoinHandle<()>,
    /// Held as long as the files are open.
    pub lock: File,
}

impl Writer {
    pub fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let (mut commands, mut appends, mut closers) = (Vec::new(), Vec::new(), Vec::new());
        while queue.blocking_recv_many(&mut commands, BATCH) > 0 {
            for command in commands.drain(..) {
                if let Command::Append(append) = command {
                    appends.push(*append);
                    continue;
                }
                self.flush(&mut appends);
                match command {
                    Command::Append(_) => {}
                    Command::CatchUp(reply) => {
                        let _ = reply.send(self.catch_up());
                    }
                    Command::Checkpoint => self.checkpoint(),
                    Command::Close(reply) => {
                        queue.close();
                        closers.push(reply);
                    }
                    #[cfg(test)]
                    Command::Test(run) => run(&self),
                }
            }
            self.flush(&mut appends);
        }
        self.shared.close();
        let _ = self.sync.join();
        // The lock goes last: a successor must find both files closed.
        drop((self.journal, self.state));
        drop(self.lock);
        for closer in closers {
            let _ = closer.send(());
        }
    }

    fn flush(&mut self, appends: &mut Vec<Append>) {
        if appends.is_empty() {
            return;
        }
        match self.write(appends) {
            Ok(heads) => self.publish(appends.drain(..), heads),
            Err(e) if appends.len() == 1 => fail(appends.drain(..), &e),
            // One row that can't be written must not take the others along.
            Err(_) => {
                for append in appends.drain(..) {
                    let one = [append];
                    match self.write(&one) {
                        Ok(heads) => self.publish(one.into_iter(), heads),
                        Err(e) => fail(one.into_iter(), &e),
                    }
                }
            }
        }
    }

    /// Writes all or nothing; the heads are those after each row.
    fn write(&mut self, appends: &[Append]) -> Result<Vec<Head>, Error> {
        self.catch_up()?;
        let to_journal = self.journal.error("appending to the journal");
        let to_state = self.state.error("applying a journal row");
        let now_ms = now_ms();
        let mut head = self.head;
        let mut heads = Vec::with_capacity(appends.len());

        let journal = self.journal.begin().map_err(to_journal)?;
        let state = self.state.begin().map_err(to_state)?;
        for Append { entry, .. } in appends {
            projection::admit(&self.state, &entry.event)?;
            head = journal::insert(&journal, &head, &self.cp_life, now_ms, entry).map_err(to_journal)?;
            let fact = Fact {
                seq: head.seq,
                at_ms: head.at_ms,
                agent: entry.agent.as_ref(),
                event: &entry.event,
            };
            projection::apply(&state, fact).map_err(to_state)?;
            heads.push(head);
        }
        projection::mark(&state, head.seq, &head.hash).map_err(to_state)?;
        if let Err(e) = journal.commit() {
            // What is on file decides, not what the call said of it.
            if journal::head(&self.journal.conn).map_err(to_journal)? != head {
                return Err(to_journal(e));
            }
        }
        self.head = head;
        let projected = if self.faults.strikes(Point::BetweenCommits) {
            drop(state);
            Err("fault".to_owned())
        } else {
            state.commit().map_err(|e| to_state(e).to_string())
        };
        if let Err(error) = projected {
            tracing::error!(%error, seq = head.seq, "the projection is behind the journal");
            self.shared.behind.store(true, Ordering::Release);
        }
        self.shared.committed(head.seq);
        Ok(heads)
    }

    fn publish(&self, appends: impl Iterator<Item = Append>, heads: Vec<Head>) {
        for (Append { entry, reply }, head) in appends.zip(heads) {
            let row = Arc::new(Row {
                seq: head.seq,
                at_ms: head.at_ms,
                cp_life: self.cp_life.clone(),
                agent: entry.agent,
                event: entry.event,
            });
            // Nobody listening, and a caller that went away, are no errors: the row is a fact.
            let _ = self.bus.send(Arc::clone(&row));
            let _ = reply.send(Ok(row));
        }
    }

    fn catch_up(&mut self) -> Result<(), Error> {
        if !self.shared.behind.load(Ordering::Acquire) {
            return Ok(());
        }
        let replayed = replay::catch_up(&self.journal, &self.state, &self.faults)?;
        tracing::info!(replayed, "the projection has caught up with the journal");
        self.shared.behind.store(false, Ordering::Release);
        Ok(())
    }

    fn checkpoint(&mut self) {
        let busy = self
            .journal
            .conn
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        match busy {
            Ok(false) => self.shared.publish_synced(self.head.seq),
            Ok(true) => tracing::warn!("journal checkpoint is blocked by a reader"),
            Err(error) => tracing::warn!(%error, "journal checkpoint failed"),
        }
    }
}

fn fail(appends: impl Iterator<Item = Append>, error: &Error) {
    for append in appends {
        let _ = append.reply.send(Err(error.clone()));
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
