//! What the store's threads and its handles tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::Error;

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
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub committed: u64,
    /// The writer commits nothing more.
    pub closed: bool,
}

impl Shared {
    pub fn new(last_seq: u64) -> Self {
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

    fn lock(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
