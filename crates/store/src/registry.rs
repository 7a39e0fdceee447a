//! The registry: the agents that proved who they are.
//!
//! Owns its contract ([`Registry`]), what an entry is and the rules by which one may replace another. Two keep
//! it: the [`Store`], where a change is a journal row first and a row of `state.db` second, and [`Memory`], for
//! whoever needs no journal. One suite of tests holds for both (`tests/conformance.rs`).
//!
//! ```text
//! Register ──add──▶ entry ──rotate──▶ current + previous thumbprint ──settle──▶ current alone
//!                     │ add of a higher generation: replaced, the old thumbprints are denied from then on
//!                     └─evict (destroyed, or pruned by the reconcile; never by stop, die or kill)──▶ nothing
//! ```
//! One writer journals changes one after another, so a rule holds at the moment of the write and not only when
//! somebody looked before.

mod memory;
mod sqlite;

use std::future::Future;

use clawker_model::event::{IdentityRotated, RegistryRow};
use clawker_model::{AgentName, ContainerId, FullName, ProjectName, Thumbprint};
use subtle::ConstantTimeEq as _;

pub use memory::Memory;

use crate::{Error, Matched};

/// What Register found out about an agent, with the names as they came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub container: ContainerId,
    /// Empty for an agent without a project.
    pub project: String,
    pub agent: String,
    pub start: u64,
    pub generation: u64,
    /// SHA-256 of the public key's SubjectPublicKeyInfo, in hex.
    pub key_hash: String,
    pub thumbprint: Thumbprint,
    pub registered_at_ms: u64,
    /// SHA-256 of the single-use token that is spent on it, in hex: burnt in the same transaction.
    pub token: Option<String>,
}

/// A registered agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub row: RegistryRow,
    /// The canonical name, computed when the entry was added and never again: what a leaf's CN is compared with.
    pub cn: String,
    /// When it last registered, connected, answered a lease or called; milliseconds since the Unix epoch. Leases and
    /// calls are kept in memory alone, so after a restart it is when it last registered or connected.
    pub last_seen_ms: u64,
}

impl Entry {
    /// Which of its thumbprints this is, if it is one.
    pub fn matched(&self, thumbprint: &Thumbprint) -> Option<Matched> {
        if self.row.thumbprint == *thumbprint {
            Some(Matched::Current)
        } else if self.row.previous_thumbprint.as_ref() == Some(thumbprint) {
            Some(Matched::Previous)
        } else {
            None
        }
    }
}

/// Who is registered. Every answer is a copy; [`Error::is_refusal`] tells a refusal from a fault.
pub trait Registry: Send + Sync {
    /// Enters an agent under its container and its thumbprint, and returns its entry once that survives a power
    /// cut. The same generation and key again changes nothing. A higher generation replaces the container's entry
    /// at one stroke; a lower one, or the same with another key, is [`Error::GenerationReplayed`]. A token that was spent
    /// before is [`Error::TokenSpent`]. A thumbprint of
    /// another container is [`Error::ThumbprintTaken`], names that break the grammar are [`Error::Name`], a
    /// thumbprint or a time of zero [`Error::BadCandidate`]; nothing of them is journaled.
    fn add(&self, candidate: Candidate) -> impl Future<Output = Result<Entry, Error>> + Send;

    /// By the thumbprint of a leaf, current or previous, if the leaf's CN is the entry's, compared in constant
    /// time. Anything else is [`Error::UnknownAgent`], which doesn't say what was wrong.
    fn lookup(&self, thumbprint: &Thumbprint, cn: &str) -> impl Future<Output = Result<Entry, Error>> + Send;

    /// By container, whatever was shown: what the caller finds different is his to judge.
    /// [`Error::UnknownAgent`] if there is none.
    fn lookup_by_container(&self, container: &ContainerId) -> impl Future<Output = Result<Entry, Error>> + Send;

    /// A renewal: the new thumbprint is the current one, the one that the agent held the previous one. Key and
    /// generation stay; [`Error::GenerationReplayed`] if the entry's generation is another.
    fn rotate(&self, renewal: IdentityRotated) -> impl Future<Output = Result<Entry, Error>> + Send;

    /// The leaf with this thumbprint was seen in a finished handshake: if it is the current one, the previous one
    /// is denied from now on.
    fn settle(
        &self,
        container: &ContainerId,
        thumbprint: &Thumbprint,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes what there is of a container, if anything. The error is for the caller to log and go on: a later
    /// eviction or the reconcile takes the row.
    fn evict_by_container(&self, container: &ContainerId, why: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Every entry, sorted by project, then agent.
    fn snapshot(&self) -> impl Future<Output = Result<Vec<Entry>, Error>> + Send;

    /// The agent answered a lease or made a call. Costs no write: see [`Entry::last_seen_ms`].
    fn seen(&self, container: &ContainerId, at_ms: u64);
}

impl Candidate {
    /// Parses the names; what is left of the checks is the registry's.
    fn row(self) -> Result<(RegistryRow, Option<String>), Error> {
        let project = match self.project.as_str() {
            "" => None,
            project => Some(ProjectName::parse(project)?),
        };
        let name = FullName::new(project, AgentName::parse(&self.agent)?);
        let bad = |what| {
            Err(Error::BadCandidate {
                name: name.clone(),
                what,
            })
        };
        if self.thumbprint.as_str().bytes().all(|digit| digit == b'0') {
            return bad("its thumbprint is zero");
        }
        if self.registered_at_ms == 0 {
            return bad("its time of registration is zero");
        }
        let row = RegistryRow {
            container: self.container,
            name,
            start: self.start,
            generation: self.generation,
            key_hash: self.key_hash,
            thumbprint: self.thumbprint,
            previous_thumbprint: None,
            registered_at_ms: self.registered_at_ms,
        };
        Ok((row, self.token))
    }
}

impl From<RegistryRow> for Candidate {
    fn from(row: RegistryRow) -> Self {
        Self {
            container: row.container,
            project: row.name.project().map(ToString::to_string).unwrap_or_default(),
            agent: row.name.agent().to_string(),
            start: row.start,
            generation: row.generation,
            key_hash: row.key_hash,
            thumbprint: row.thumbprint,
            registered_at_ms: row.registered_at_ms,
            token: None,
        }
    }
}

/// What a row means for the one that its container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is the same agent with a leaf that is known: nothing.
    Known,
    Write,
}

/// Whether `new` may stand in the place of `held`, the row of the same container.
pub(crate) fn change(held: Option<&RegistryRow>, new: &RegistryRow) -> Result<Change, Error> {
    let Some(held) = held else { return Ok(Change::Write) };
    if new.generation > held.generation {
        return Ok(Change::Write);
    }
    if new.generation < held.generation || new.key_hash != held.key_hash {
        return Err(replayed(held, new.generation));
    }
    let known = new.thumbprint == held.thumbprint || held.previous_thumbprint.as_ref() == Some(&new.thumbprint);
    Ok(if known { Change::Known } else { Change::Write })
}

/// Whether a row may be written at all: also against one that came between a look and the write.
pub(crate) fn admit(held: Option<&RegistryRow>, new: &RegistryRow) -> Result<(), Error> {
    change(held, new)?;
    match held {
        Some(held)
            if held.generation == new.generation && held.previous_thumbprint.as_ref() == Some(&new.thumbprint) =>
        {
            Err(replayed(held, new.generation))
        }
        _ => Ok(()),
    }
}

pub(crate) fn replayed(held: &RegistryRow, generation: u64) -> Error {
    Error::GenerationReplayed {
        container: held.container.clone(),
        generation,
        held: held.generation,
    }
}

pub(crate) fn taken(row: &RegistryRow, thumbprint: &Thumbprint, held_by: &ContainerId) -> Error {
    Error::ThumbprintTaken {
        thumbprint: thumbprint.clone(),
        container: row.container.clone(),
        held_by: held_by.clone(),
    }
}

/// The entry that a thumbprint found, if the CN is its own. The time this takes depends on the lengths alone.
fn believe(found: Option<Entry>, cn: &str) -> Result<Entry, Error> {
    let entry = found.ok_or(Error::UnknownAgent)?;
    if bool::from(entry.cn.as_bytes().ct_eq(cn.as_bytes())) {
        Ok(entry)
    } else {
        Err(Error::UnknownAgent)
    }
}
