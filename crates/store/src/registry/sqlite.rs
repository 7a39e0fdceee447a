//! The registry as the store keeps it: a journal row, synced, then the projection's row.

use clawker_model::event::{IdentityConfirmed, IdentityRotated, RegistryRowEvicted, RegistryRowWritten};
use clawker_model::{ContainerId, Thumbprint};

use super::{Candidate, Change, Entry, Registry, believe, change, replayed};
use crate::{Error, Store, query};

const READING: &str = "reading the registry";

impl Store {
    /// With what only memory knows of when the agent was last seen.
    fn fresh(&self, mut entry: Entry) -> Entry {
        if let Some(seen) = self.shared.seen(&entry.row.container) {
            entry.last_seen_ms = entry.last_seen_ms.max(seen);
        }
        entry
    }

    async fn entry(&self, container: &ContainerId) -> Result<Option<Entry>, Error> {
        let container = container.clone();
        let found = self.state(READING, move |c| query::entry(c, &container)).await?;
        Ok(found.map(|entry| self.fresh(entry)))
    }
}

impl Registry for Store {
    async fn add(&self, candidate: Candidate) -> Result<Entry, Error> {
        let (row, token) = candidate.row()?;
        let held = self.entry(&row.container).await?;
        if let Some(held) = held
            && change(Some(&held.row), &row)? == Change::Known
        {
            // Whoever asks again may be quicker than the sync of the first answer.
            self.wait_synced(self.last_seq()).await?;
            return Ok(held);
        }
        let (name, written) = (
            row.name.clone(),
            RegistryRowWritten {
                row: row.clone(),
                token,
            },
        );
        self.append_synced(Some(&name), written).await?;
        // What was written, not what is there now: a newer generation may have come.
        Ok(self.fresh(Entry {
            cn: name.to_string(),
            last_seen_ms: row.registered_at_ms,
            row,
        }))
    }

    async fn lookup(&self, thumbprint: &Thumbprint, cn: &str) -> Result<Entry, Error> {
        let thumbprint = thumbprint.clone();
        let found = self
            .state(READING, move |c| query::entry_by_thumbprint(c, &thumbprint))
            .await?;
        believe(found, cn).map(|entry| self.fresh(entry))
    }

    async fn lookup_by_container(&self, container: &ContainerId) -> Result<Entry, Error> {
        self.entry(container).await?.ok_or(Error::UnknownAgent)
    }

    async fn rotate(&self, renewal: IdentityRotated) -> Result<Entry, Error> {
        let container = renewal.container.clone();
        let held = self.lookup_by_container(&container).await?;
        if held.row.generation != renewal.generation {
            return Err(replayed(&held.row, renewal.generation));
        }
        if held.row.thumbprint != renewal.thumbprint {
            self.append_synced(Some(&held.row.name), renewal).await?;
        }
        self.lookup_by_container(&container).await
    }

    async fn settle(&self, container: &ContainerId, thumbprint: &Thumbprint) -> Result<(), Error> {
        let Some(held) = self.entry(container).await? else {
            return Ok(());
        };
        if held.row.thumbprint == *thumbprint && held.row.previous_thumbprint.is_some() {
            let confirmed = IdentityConfirmed {
                container: container.clone(),
                thumbprint: thumbprint.clone(),
            };
            self.append_synced(Some(&held.row.name), confirmed).await?;
        }
        Ok(())
    }

    async fn evict_by_container(&self, container: &ContainerId, why: &str) -> Result<(), Error> {
        let Some(held) = self.entry(container).await? else {
            return Ok(());
        };
        let evicted = RegistryRowEvicted {
            container: container.clone(),
            why: why.to_owned(),
        };
        self.append_synced(Some(&held.row.name), evicted).await?;
        Ok(())
    }

    async fn snapshot(&self) -> Result<Vec<Entry>, Error> {
        let entries = self.state(READING, query::entries).await?;
        Ok(entries.into_iter().map(|entry| self.fresh(entry)).collect())
    }

    fn seen(&self, container: &ContainerId, at_ms: u64) {
        self.shared.see(container, at_ms);
    }
}
