//! What the store's threads and its handles tell each other.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawker_model::ContainerId;
use tokio::sync::watch;

use crate::Error;
use crate::chain::{Hash, Head};
use crate::key::PublicKey;

/// How many rows' hashes are remembered.
const RECENT: usize = 4096;

#[derive(Debug)]
pub(crate) struct Shared {
    end: Mutex<End>,
    grown: Condvar,
    last_seq: AtomicU64,
    /// The projection lacks rows that the journal has.
    pub behind: AtomicBool,
    /// All rows up to here survive a power cut.
    pub synced: watch::Sender<u64>,
    /// Why the rows after `synced` may not, while syncing fails.
    pub sync_failed: watch::Sender<Option<Error>>,
    /// The host's public key.
    pub key: PublicKey,
    /// The last row that was dropped.
    base: AtomicU64,
    /// Hashes of the last rows, so that a row just broadcast has a place without a question to the file.
    recent: Mutex<VecDeque<(u64, Hash)>>,
    /// When registered agents answered a lease or called, later than state.db knows.
    seen: Mutex<HashMap<ContainerId, u64>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub committed: u64,
    /// The writer commits nothing more.
    pub closed: bool,
}

impl Shared {
    pub fn new(last_seq: u64, base: u64, key: PublicKey) -> Self {
        Self {
            end: Mutex::new(End {
                committed: last_seq,
                closed: false,
            }),
            grown: Condvar::new(),
            last_seq: AtomicU64::new(last_seq),
            behind: AtomicBool::new(false),
            synced: watch::Sender::new(last_seq),
            sync_failed: watch::Sender::new(None),
            key,
            base: AtomicU64::new(base),
            recent: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    pub fn last_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Acquire)
    }

    pub fn committed(&self, seq: u64) {
        self.last_seq.store(seq, Ordering::Release);
        self.lock().committed = seq;
        self.grown.notify_all();
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.grown.notify_all();
    }

    /// Waits until there is a row after `seq`, or there will be none.
    pub fn wait_beyond(&self, seq: u64) -> End {
        let wait = self
            .grown
            .wait_while(self.lock(), |end| end.committed <= seq && !end.closed);
        *wait.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a time, or until the store closes.
    pub fn wait_closed(&self, time: Duration) -> bool {
        let wait = self.grown.wait_timeout_while(self.lock(), time, |end| !end.closed);
        wait.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    pub fn publish_synced(&self, seq: u64) {
        self.sync_failed.send_if_modified(|failed| failed.take().is_some());
        self.synced.send_if_modified(|synced| {
            let forward = seq > *synced;
            *synced = seq.max(*synced);
            forward
        });
    }

    pub fn base(&self) -> u64 {
        self.base.load(Ordering::Acquire)
    }

    pub fn set_base(&self, seq: u64) {
        self.base.store(seq, Ordering::Release);
    }

    pub fn recent(&self, seq: u64) -> Option<Hash> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let first = recent.front()?.0;
        let index = usize::try_from(seq.checked_sub(first)?).ok()?;
        recent.get(index).map(|(_, hash)| *hash)
    }

    pub fn remember(&self, heads: &[Head]) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.extend(heads.iter().map(|head| (head.seq, head.hash)));
        let more = recent.len().saturating_sub(RECENT);
        recent.drain(..more);
    }

    pub fn see(&self, container: &ContainerId, at_ms: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(latest) = seen.get_mut(container) {
            *latest = at_ms.max(*latest);
        } else {
            seen.insert(container.clone(), at_ms);
        }
    }

    pub fn seen(&self, container: &ContainerId) -> Option<u64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(container).copied()
    }

    /// The container has gone.
    pub fn forget(&self, container: &ContainerId) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(container);
    }

    fn lock(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
