//! The journal as containment uses it: intent before acting, but never instead of acting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clawker_model::{Event, FullName};
use clawker_store::Store;

/// How long a containment waits for its intent to be written. A row that comes late is written all the same, in order.
const PATIENCE: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub(super) struct Journal {
    pub(super) store: Store,
    failed: Arc<AtomicBool>,
}

impl Journal {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            failed: Arc::default(),
        }
    }

    /// The row's number; 0 if it isn't known to be written.
    pub(super) async fn note(&self, agent: impl Into<Option<&FullName>>, event: impl Into<Event>) -> u64 {
        let (agent, event) = (agent.into(), event.into());
        let kind = event.kind();
        let error = match tokio::time::timeout(PATIENCE, self.store.append(agent, event)).await {
            Ok(Ok(row)) => return row.seq,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it doesn't answer".to_owned(),
        };
        tracing::error!(
            agent = agent.map(tracing::field::display),
            kind,
            error,
            "containment isn't journaled"
        );
        self.failed.store(true, Ordering::Relaxed);
        0
    }

    /// Whether a row was missed since the last look.
    pub(super) fn missed(&self) -> bool {
        self.failed.swap(false, Ordering::Relaxed)
    }
}
