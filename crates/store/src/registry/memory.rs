//! The registry without a journal: the same rules, kept for as long as the process lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use clawker_model::event::{IdentityRotated, RegistryRow};
use clawker_model::{ContainerId, Thumbprint};

use super::{Candidate, Change, Entry, Registry, admit, believe, change, replayed, taken};
use crate::Error;

#[derive(Debug, Default)]
pub struct Memory {
    entries: Mutex<BTreeMap<ContainerId, Entry>>,
    burnt: Mutex<BTreeSet<String>>,
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Entries = BTreeMap<ContainerId, Entry>;

fn by_thumbprint<'a>(entries: &'a Entries, thumbprint: &Thumbprint) -> Option<&'a Entry> {
    entries.values().find(|entry| entry.matched(thumbprint).is_some())
}

fn write(entries: &mut Entries, row: RegistryRow) -> Result<Entry, Error> {
    admit(entries.get(&row.container).map(|held| &held.row), &row)?;
    for thumbprint in [Some(&row.thumbprint), row.previous_thumbprint.as_ref()]
        .into_iter()
        .flatten()
    {
        match by_thumbprint(entries, thumbprint) {
            Some(held) if held.row.container != row.container => {
                return Err(taken(&row, thumbprint, &held.row.container));
            }
            _ => {}
        }
    }
    let seen = entries.get(&row.container).map_or(0, |held| held.last_seen_ms);
    let entry = Entry {
        cn: row.name.to_string(),
        last_seen_ms: seen.max(row.registered_at_ms),
        row,
    };
    entries.insert(entry.row.container.clone(), entry.clone());
    Ok(entry)
}

impl Registry for Memory {
    async fn add(&self, candidate: Candidate) -> Result<Entry, Error> {
        let (row, token) = candidate.row()?;
        let mut entries = self.lock();
        if let Some(held) = entries.get(&row.container)
            && change(Some(&held.row), &row)? == Change::Known
        {
            return Ok(held.clone());
        }
        let mut burnt = self.burnt.lock().unwrap_or_else(PoisonError::into_inner);
        if token.as_ref().is_some_and(|token| burnt.contains(token)) {
            return Err(Error::TokenSpent);
        }
        let entry = write(&mut entries, row)?;
        burnt.extend(token);
        Ok(entry)
    }

    async fn lookup(&self, thumbprint: &Thumbprint, cn: &str) -> Result<Entry, Error> {
        believe(by_thumbprint(&self.lock(), thumbprint).cloned(), cn)
    }

    async fn lookup_by_container(&self, container: &ContainerId) -> Result<Entry, Error> {
        self.lock().get(container).cloned().ok_or(Error::UnknownAgent)
    }

    async fn rotate(&self, renewal: IdentityRotated) -> Result<Entry, Error> {
        let mut entries = self.lock();
        let held = entries.get(&renewal.container).cloned().ok_or(Error::UnknownAgent)?;
        if held.row.generation != renewal.generation {
            return Err(replayed(&held.row, renewal.generation));
        }
        if held.row.thumbprint == renewal.thumbprint {
            return Ok(held);
        }
        let before = renewal.held.filter(|before| *before != renewal.thumbprint);
        let row = RegistryRow {
            previous_thumbprint: Some(before.unwrap_or(held.row.thumbprint)),
            thumbprint: renewal.thumbprint,
            ..held.row
        };
        write(&mut entries, row)
    }

    async fn settle(&self, container: &ContainerId, thumbprint: &Thumbprint) -> Result<(), Error> {
        if let Some(held) = self.lock().get_mut(container)
            && held.row.thumbprint == *thumbprint
        {
            held.row.previous_thumbprint = None;
        }
        Ok(())
    }

    async fn evict_by_container(&self, container: &ContainerId, _why: &str) -> Result<(), Error> {
        self.lock().remove(container);
        Ok(())
    }

    async fn snapshot(&self) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = self.lock().values().cloned().collect();
        entries.sort_by(|a, b| (&a.row.name, &a.row.container).cmp(&(&b.row.name, &b.row.container)));
        Ok(entries)
    }

    fn seen(&self, container: &ContainerId, at_ms: u64) {
        if let Some(entry) = self.lock().get_mut(container) {
            entry.last_seen_ms = entry.last_seen_ms.max(at_ms);
        }
    }
}
