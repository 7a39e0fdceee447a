//! nftables and network namespaces: what may leave and enter an agent.
//!
//! The only crate that makes nftables and namespace calls. One OS thread owns every netlink socket; callers hold a
//! [`Netfilter`] handle and block for its answer, so call from a blocking context.
//!
//! ```text
//! attach(netns) ── setns, open sockets, setns back ──► kept ── apply(state) ─► one batch ─► dump ─► compare
//!                                                       │                                   └► NotAsAsked
//!                                                       └─ detach ─► closed on the reaper thread (a close costs ms)
//! ```
//!
//! A socket stays in the namespace it was made in, whatever its thread does later; it is keyed by the namespace's
//! inode and the container's start, because a restarted container has a new namespace and an old socket would lock
//! a ghost. Nothing here decides what an agent deserves, and nothing is reported in force that wasn't read back.

mod dump;
mod error;
mod expr;
#[doc(hidden)]
pub mod fuzzing;
mod netlink;
mod policy;
mod probe;
mod ruleset;
mod told;
mod worker;

use std::os::fd::OwnedFd;
use std::sync::mpsc;

use clawker_model::NetworkState;

pub use error::Error;
use worker::{Job, Worker};

/// More destinations than this are refused: a list of that length is a mistake or an attack.
pub const MAX_RULES: usize = 256;
/// A namespace with more interfaces than this can't be locked, which its caller turns into a stronger action.
pub const MAX_INTERFACES: usize = 128;

/// A network namespace in one life of its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsKey {
    pub inode: u64,
    /// The container's start.
    pub start: u64,
}

/// What the kernel has, by its own account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkRead {
    /// No table of ours.
    Open,
    /// Everything is dropped but what the rules of the output chain accept.
    Restricted { rules: usize },
    /// Everything is dropped, on every interface.
    Locked,
    /// A table of ours that is none of these: an interface isn't covered, or somebody changed it.
    Damaged { what: String },
}

/// The answer of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    pub network: NetworkRead,
    /// Every interface of the namespace, sorted.
    pub interfaces: Vec<String>,
    /// One line for people and the journal.
    pub summary: String,
    /// Output packets dropped in this life of the namespace.
    pub denied: u64,
    /// Microseconds that the netfilter thread spent, applying included.
    pub micros: u64,
}

/// Handle to the thread that owns the sockets.
#[derive(Clone)]
pub struct Netfilter {
    jobs: mpsc::Sender<Job>,
}

impl Netfilter {
    /// Starts the thread and tries every feature that containment needs in a namespace of its own.
    /// The error names what the kernel, or our permission, lacks.
    pub fn start() -> Result<Self, Error> {
        let netfilter = Self { jobs: worker::spawn()? };
        netfilter.call(Worker::probe)?;
        Ok(netfilter)
    }

    /// Takes a namespace into care. The same namespace and start again is no change.
    pub fn attach(&self, netns: OwnedFd, start: u64) -> Result<NetnsKey, Error> {
        self.call(move |worker| worker.attach(&netns, start))
    }

    /// Puts `state` in force in one transaction and reads it back; `NotAsAsked` if that isn't what is there then.
    pub fn apply(&self, key: &NetnsKey, state: &NetworkState) -> Result<ReadBack, Error> {
        let (key, state) = (*key, state.clone());
        self.call(move |worker| worker.apply(key, &state))
    }

    /// Reads back and compares with `state`, changing nothing.
    pub fn verify(&self, key: &NetnsKey, state: &NetworkState) -> Result<ReadBack, Error> {
        let (key, state) = (*key, state.clone());
        self.call(move |worker| worker.verify(key, &state))
    }

    /// What is there, compared with nothing.
    pub fn read(&self, key: &NetnsKey) -> Result<ReadBack, Error> {
        let key = *key;
        self.call(move |worker| worker.read(key))
    }

    /// The state that is in force, with every destination of a restriction, as if it had been asked for. An error if
    /// what is there is no state of ours exactly.
    pub fn state(&self, key: &NetnsKey) -> Result<NetworkState, Error> {
        let key = *key;
        self.call(move |worker| worker.state(key))
    }

    /// Output packets dropped in this life of the namespace; goes on counting when a policy is replaced.
    pub fn denied(&self, key: &NetnsKey) -> Result<u64, Error> {
        let key = *key;
        self.call(move |worker| worker.denied(key))
    }

    /// Lets the namespace go, as it is. Unknown is no error.
    pub fn detach(&self, key: &NetnsKey) {
        let key = *key;
        // A thread that is gone holds no sockets.
        let _ = self.jobs.send(Box::new(move |worker| worker.detach(key)));
    }

    fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = mpsc::sync_channel(1);
        let run: Job = Box::new(move |worker| {
            // A caller that gave up needs no answer.
            let _ = answer.send(job(worker));
        });
        self.jobs.send(run).map_err(|_| Error::Gone)?;
        answered.recv().map_err(|_| Error::Gone)?
    }
}
