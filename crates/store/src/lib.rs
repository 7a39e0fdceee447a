//! The journal and what it adds up to. The only crate that knows rusqlite.
//!
//! Owns two SQLite files in the state folder: `journal.db`, the truth, every row chained to the one before
//! it by its hash; and `state.db`, a projection of it that can be deleted at any time. May not decide
//! anything: what an event means for the state is `projection`, and the rest is carrying it out.
//!
//! ```text
//!   append ──queue──▶ writer thread ──commit journal──commit state──▶ broadcast, answer
//!                                          │
//!                                          ▼
//!                     sync thread: fdatasync of the WAL, at most every 5 ms ──▶ synced()
//!   agents, rows, … ──queue──▶ reader thread (read-only connections)
//! ```
//! An append that was answered is seen by every read that begins after it. It survives the death of the
//! process; a power cut only once `synced()` has reached it. Show a row to another machine, or answer
//! somebody on its strength, after that ([`Store::append_synced`]); local intents don't wait.
//!
//! A future that is dropped may leave its row written: the journal is what happened.

mod admit;
mod audit;
mod backup;
mod chain;
mod checkpoint;
mod cursor;
mod db;
mod error;
mod execs;
mod faults;
mod head;
mod journal;
mod keep;
mod key;
mod open;
mod projection;
mod query;
mod reader;
mod record;
mod registry;
mod replay;
mod retain;
mod shared;
mod sync;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clawker_model::event::{Cause, RegistryRow};
use clawker_model::{ContainerId, Event, FullName, PluginDigest, Row, Thumbprint};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use zeroize::Zeroizing;

pub use audit::{Audit, BadSeal, Finding, MAX_FINDINGS};
pub use cursor::{BadCursor, Cursor, Resync, ResyncReason};
pub use error::Error;
pub use execs::ExecRecord;
pub use head::SignedHead;
pub use journal::{MAX_BODY, MAX_ROWS};
pub use open::lock;
pub use record::{
    AgentRecord, BadRow, Broken, EffectRecord, Exit, InitProgress, Issued, Matched, OpenReport, Placed, Rebuilt,
    RegistryMatch, Restarts, StepEnd, StepFailure,
};
pub use registry::{Candidate, Entry, Memory, Registry};
pub use retain::{Limits, Retained};

use faults::Faults;
use journal::{Encoded, Query};
use key::HostSecret;
use reader::{Reader, Request};
use shared::Shared;
use writer::{Append, Command, Writer};

/// Rows that a subscriber may be late by before it misses some.
const BUS: usize = 4096;

/// Commands that may wait for a thread; more make their senders wait.
const QUEUE: usize = 1024;

/// A handle; clones share the threads, which end with the last of them or with [`Store::close`].
#[derive(Debug, Clone)]
pub struct Store {
    writer: mpsc::Sender<Command>,
    reader: mpsc::Sender<Request>,
    bus: broadcast::Sender<Arc<Row>>,
    shared: Arc<Shared>,
    report: Arc<OpenReport>,
    id: Arc<str>,
    dir: Arc<Path>,
    secret: Arc<HostSecret>,
}

impl Store {
    /// Opens the store in a folder that exists, for one control plane alone. Blocks: it checks both files
    /// and replays what the projection lacks. `cp_life` is written into every row.
    pub fn open(dir: &Path, cp_life: &str) -> Result<Self, Error> {
        Self::open_with(dir, cp_life, Faults::default())
    }

    fn open_with(dir: &Path, cp_life: &str, faults: Faults) -> Result<Self, Error> {
        let began = Instant::now();
        let files = open::open(dir, &faults)?;
        let reading = Reader {
            journal: db::Db::open_read_only(dir, db::Which::Journal)?,
            state: db::Db::open_read_only(dir, db::Which::State)?,
        };
        let report = OpenReport {
            rebuilt: files.rebuilt,
            replayed: files.replayed,
            last_seq: files.head.seq,
            begun: files.begun,
            cut: files.cut,
            key_lost: files.key_lost,
            took: began.elapsed(),
        };
        if let Some(cut) = report.cut {
            tracing::error!(
                last = report.last_seq,
                signed = cut,
                "the journal was cut off: rows that were signed are missing"
            );
        }
        if report.key_lost {
            tracing::error!("the host key was lost: what the journal holds is signed by a stranger now");
        }
        if let Some(why) = &report.rebuilt {
            tracing::warn!(%why, replayed = report.replayed, "state.db was rebuilt from the journal");
        }

        let secret = Arc::new(files.key.secret());
        let shared = Arc::new(Shared::new(files.head.seq, files.base, files.key.public()));
        let (bus, _) = broadcast::channel(BUS);
        let (writer, commands) = mpsc::channel(QUEUE);
        let (reader, requests) = mpsc::channel(QUEUE);
        let sync = sync::Sync {
            wal: files.wal,
            file: files.wal_path,
            shared: Arc::clone(&shared),
            writer: writer.downgrade(),
            faults: faults.clone(),
        };
        let sync = thread(dir, "store-sync", move || sync.run())?;
        let writing = Writer {
            journal: files.journal,
            state: files.state,
            head: files.head,
            id: files.id.clone(),
            key: files.key,
            sealed: files.sealed,
            cp_life: cp_life.to_owned(),
            shared: Arc::clone(&shared),
            bus: bus.clone(),
            faults,
            sync,
            lock: files.lock,
        };
        thread(dir, "store-writer", move || writing.run(commands))?;
        thread(dir, "store-reader", move || reading.run(requests))?;
        Ok(Self {
            writer,
            reader,
            bus,
            shared,
            report: Arc::new(report),
            id: files.id.into(),
            dir: dir.into(),
            secret,
        })
    }

    /// A secret key of this host for one purpose, e.g. `plugins`. Whoever restores the host key has it again.
    pub fn key_for(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        self.secret.key_for(purpose)
    }

    /// What opening found and did.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// This journal's id; a journal begun anew has another.
    pub fn journal_id(&self) -> &str {
        &self.id
    }

    /// Journals an event. When this returns the row is committed, projected and broadcast.
    pub async fn append(&self, agent: Option<&FullName>, event: impl Into<Event>) -> Result<Arc<Row>, Error> {
        let entry = Encoded::new(agent, event.into())?;
        let (reply, answer) = oneshot::channel();
        let append = Command::Append(Box::new(Append { entry, reply }));
        self.writer.send(append).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// As [`Store::append`], and the row survives a power cut. When syncing fails the row is journaled all the
    /// same, and the error says that it may be lost.
    pub async fn append_synced(&self, agent: Option<&FullName>, event: impl Into<Event>) -> Result<Arc<Row>, Error> {
        let row = self.append(agent, event).await?;
        self.wait_synced(row.seq).await?;
        Ok(row)
    }

    /// Returns once the rows up to `seq` survive a power cut.
    pub async fn wait_synced(&self, seq: u64) -> Result<(), Error> {
        let mut synced = self.shared.synced.subscribe();
        let mut failed = self.shared.sync_failed.subscribe();
        loop {
            if *synced.borrow_and_update() >= seq {
                return Ok(());
            }
            if let Some(e) = failed.borrow_and_update().clone() {
                return Err(e);
            }
            let changed = tokio::select! {
                changed = synced.changed() => changed,
                changed = failed.changed() => changed,
            };
            changed.map_err(|_| Error::Closed)?;
        }
    }

    /// Up to which seq rows survive a power cut.
    pub fn synced(&self) -> watch::Receiver<u64> {
        self.shared.synced.subscribe()
    }

    /// The last row that was dropped; 0 if none was.
    pub fn dropped(&self) -> u64 {
        self.shared.base()
    }

    /// The last committed row.
    pub fn last_seq(&self) -> u64 {
        self.shared.last_seq()
    }

    /// Every row from now on, in order. A subscriber more than 4,096 rows late is told how many it missed, and
    /// reads them with [`Store::rows`].
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Row>> {
        self.bus.subscribe()
    }

    /// Rows after a seq, in order: at most `limit` and 1,000 of them, and fewer when they are large, but never
    /// none while there is one. `since_ms` leaves out what is older.
    pub async fn rows(
        &self,
        after: u64,
        limit: u32,
        agent: Option<&FullName>,
        since_ms: Option<u64>,
    ) -> Result<Vec<Row>, Error> {
        let rows = self.select(after, limit, agent, since_ms).await?;
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }

    /// As [`Store::rows`], each with its place.
    pub async fn placed_rows(
        &self,
        after: u64,
        limit: u32,
        agent: Option<&FullName>,
        since_ms: Option<u64>,
    ) -> Result<Vec<Placed>, Error> {
        let rows = self.select(after, limit, agent, since_ms).await?;
        Ok(rows.into_iter().map(|row| self.placed(row)).collect())
    }

    async fn select(
        &self,
        after: u64,
        limit: u32,
        agent: Option<&FullName>,
        since_ms: Option<u64>,
    ) -> Result<Vec<(Row, Vec<u8>)>, Error> {
        let query = Query {
            after,
            limit,
            agent: agent.cloned(),
            since_ms,
        };
        reader::ask(&self.reader, move |r| journal::select(&r.journal, &query)).await
    }

    /// All agents, sorted by project and name.
    pub async fn agents(&self) -> Result<Vec<AgentRecord>, Error> {
        self.state("listing agents", query::agents).await
    }

    pub async fn agent(&self, name: &FullName) -> Result<Option<AgentRecord>, Error> {
        let name = name.clone();
        self.state("reading an agent", move |c| query::agent(c, &name)).await
    }

    pub async fn agent_by_container(&self, id: &ContainerId) -> Result<Option<AgentRecord>, Error> {
        let id = id.clone();
        self.state("reading an agent", move |c| query::agent_by_container(c, &id))
            .await
    }

    /// Whether agents are being taken over because the journal is new.
    pub async fn rebuilding(&self) -> Result<bool, Error> {
        self.state("reading how far the store is", query::rebuilding).await
    }

    /// Why a name is contained, whether or not there is an agent of that name.
    pub async fn causes(&self, name: &FullName) -> Result<Vec<Cause>, Error> {
        let name = name.to_string();
        self.state("reading causes", move |c| query::causes(c, &name)).await
    }

    /// How the step of this key ended; `None` if it was never begun or is under way.
    pub async fn step_end(&self, key: &str) -> Result<Option<StepEnd>, Error> {
        let key = key.to_owned();
        self.state("reading a step", move |c| query::step_end(c, &key)).await
    }

    /// The effects of a step that is under way, by their number; of one that ended, none.
    pub async fn effects(&self, key: &str) -> Result<Vec<EffectRecord>, Error> {
        let key = key.to_owned();
        self.state("reading effects", move |c| query::effects(c, &key)).await
    }

    /// A policy's state for an agent, if that code left it; else empty.
    pub async fn policy_state(&self, policy: &str, digest: &PluginDigest, agent: &FullName) -> Result<String, Error> {
        let (policy, digest, agent) = (policy.to_owned(), digest.clone(), agent.clone());
        let read = move |c: &_| query::policy_state(c, &policy, &digest, &agent);
        self.state("reading a policy's state", read).await
    }

    pub async fn registry_row(&self, id: &ContainerId) -> Result<Option<RegistryRow>, Error> {
        let id = id.clone();
        self.state("reading the registry", move |c| query::registry_row(c, &id))
            .await
    }

    /// By the current thumbprint, else by the previous one, which holds until the new leaf is seen.
    pub async fn registry_by_thumbprint(&self, thumbprint: &Thumbprint) -> Result<Option<RegistryMatch>, Error> {
        let thumbprint = thumbprint.clone();
        self.state("reading the registry", move |c| {
            query::registry_by_thumbprint(c, &thumbprint)
        })
        .await
    }

    /// The whole registry, sorted by project and name.
    pub async fn registry(&self) -> Result<Vec<RegistryRow>, Error> {
        self.state("reading the registry", query::registry).await
    }

    /// Finishes what is queued, syncs it, closes both files and gives up the lock. Later calls on other
    /// handles are answered [`Error::Closed`].
    pub async fn close(self) {
        let (reply, done) = oneshot::channel();
        if self.reader.send(Request::Close(reply)).await.is_ok() {
            let _ = done.await;
        }
        let (reply, done) = oneshot::channel();
        if self.writer.send(Command::Close(reply)).await.is_ok() {
            let _ = done.await;
        }
    }

    async fn state<T, F>(&self, doing: &'static str, question: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        if self.shared.behind.load(Ordering::Acquire) {
            // Old answers would be wrong ones: the projection catches up first, or the reader is told why not.
            let (reply, answer) = oneshot::channel();
            self.writer
                .send(Command::CatchUp(reply))
                .await
                .map_err(|_| Error::Closed)?;
            answer.await.map_err(|_| Error::Closed)??;
        }
        reader::ask(&self.reader, move |r| {
            question(&r.state.conn).map_err(r.state.error(doing))
        })
        .await
    }
}

fn thread(dir: &Path, name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|e| Error::Io {
            doing: "starting a thread of the store",
            file: dir.to_owned(),
            detail: e.to_string(),
        })
}
