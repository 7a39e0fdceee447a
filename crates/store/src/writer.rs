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

use clawker_model::event::{AgentRemoved, RegistryRowEvicted};
use clawker_model::{Event, Row};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::chain::Head;
use crate::checkpoint::Checkpoint;
use crate::db::Db;
use crate::faults::{Faults, Point};
use crate::head::{self, SignedHead};
use crate::journal::{self, Encoded};
use crate::key::HostKey;
use crate::open::STATE_VERSION;
use crate::projection::{self, Fact};
use crate::replay;
use crate::shared::Shared;
use crate::{Error, admit, retain};

/// The most rows of one transaction.
const BATCH: usize = 256;

/// Rows after which the end is signed, if time hasn't done it.
const HEAD_EVERY: u64 = 1000;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(crate) enum Command {
    Append(Box<Append>),
    /// Applies what the projection lacks.
    CatchUp(Reply<()>),
    /// Signs the end of the journal.
    Seal(Reply<SignedHead>),
    /// Writes a checkpoint behind which the rows up to here may go.
    Condense(Head, Reply<()>),
    /// Deletes some of them; answers how many.
    Drop(Reply<u64>),
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
    pub id: String,
    pub key: HostKey,
    /// The end that was signed last.
    pub sealed: Option<u64>,
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
                    Command::Seal(reply) => {
                        let _ = reply.send(self.seal());
                    }
                    Command::Condense(to, reply) => {
                        let _ = reply.send(self.condense(to));
                    }
                    Command::Drop(reply) => {
                        let _ = reply.send(self.drop_some());
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
            self.seal_by_count();
        }
        if self.sealed != Some(self.head.seq)
            && let Err(error) = self.seal()
        {
            tracing::warn!(%error, "the journal's end isn't signed");
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
            admit::admit(&self.state, &entry.event)?;
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
        self.shared.remember(&heads);
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
            if let Event::RegistryRowEvicted(RegistryRowEvicted { container, .. })
            | Event::AgentRemoved(AgentRemoved {
                container: Some(container),
            }) = &entry.event
            {
                self.shared.forget(container);
            }
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

    /// The head of this end, signed now if it wasn't yet.
    fn seal(&mut self) -> Result<SignedHead, Error> {
        let error = self.journal.error("signing the journal's end");
        if self.sealed == Some(self.head.seq)
            && let Some(last) = head::last(&self.journal.conn, &self.id).map_err(error)?
        {
            return Ok(last);
        }
        if self.faults.strikes(Point::Head) {
            return Err(self.fault("signing the journal's end"));
        }
        let signed = SignedHead::sign(&self.id, &self.head, &self.key);
        head::insert(&self.journal.conn, &self.head, &signed).map_err(error)?;
        self.sealed = Some(self.head.seq);
        Ok(signed)
    }

    fn seal_by_count(&mut self) {
        let since = self.head.seq.saturating_sub(self.sealed.unwrap_or(0));
        if since >= HEAD_EVERY
            && let Err(error) = self.seal()
        {
            // The next row tries again.
            tracing::warn!(%error, "the journal's end isn't signed");
        }
    }

    fn condense(&mut self, to: Head) -> Result<(), Error> {
        // What the projection hasn't applied isn't in the state, so it may not go.
        self.catch_up()?;
        let sealed = Checkpoint::seal(&self.state, &self.id, to, self.head, STATE_VERSION, &self.key)?;
        let error = self.journal.error("writing a checkpoint");
        let tx = self.journal.begin().map_err(error)?;
        sealed.write(&tx).map_err(error)?;
        if self.faults.strikes(Point::Condense) {
            return Err(self.fault("writing a checkpoint"));
        }
        tx.commit().map_err(error)?;
        self.shared.set_base(to.seq);
        Ok(())
    }

    fn drop_some(&mut self) -> Result<u64, Error> {
        if self.faults.strikes(Point::Drop) {
            return Err(self.fault("dropping old rows"));
        }
        let error = self.journal.error("dropping old rows");
        let tx = self.journal.begin().map_err(error)?;
        let dropped = retain::drop_some(&tx).map_err(error)?;
        tx.commit().map_err(error)?;
        Ok(dropped)
    }

    fn fault(&self, doing: &'static str) -> Error {
        let file = self.journal.file.clone();
        Error::Full { doing, file }
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
