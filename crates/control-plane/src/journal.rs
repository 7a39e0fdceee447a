//! Keeps the journal provable and bounded: a signed head every 10 s if there is something new, old rows behind a
//! checkpoint once they are due. What goes wrong is on the board, and is tried again.

use std::sync::Arc;
use std::time::Duration;

use clawker_store::{Error, Limits, Retained};
use tokio::time::MissedTickBehavior;

use crate::config::JournalConfig;
use crate::core::{Core, now_ms};

const EVERY: Duration = Duration::from_secs(10);

impl From<JournalConfig> for Limits {
    fn from(config: JournalConfig) -> Self {
        Limits {
            max_bytes: config.max_bytes,
            max_age: Duration::from_secs(u64::from(config.max_age_days) * 24 * 3600),
        }
    }
}

/// Until shutdown.
pub async fn keep(core: Arc<Core>) {
    say_what_was_found(&core).await;
    let limits = core.config.journal.into();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = core.shutdown.cancelled() => return,
        }
        let sealed = core.store.seal().await.map(|_| ());
        report(&core, "journal-heads", sealed).await;
        let retained = core.store.retain(limits, now_ms()).await;
        if let Ok(Retained { dropped, from }) = &retained
            && *dropped > 0
        {
            tracing::info!(dropped, from, "old rows of the journal went behind a checkpoint");
        }
        report(&core, "journal-retention", retained.map(|_| ())).await;
    }
}

async fn report(core: &Core, subsystem: &'static str, outcome: Result<(), Error>) {
    match outcome {
        Ok(()) => core.board.recovered(subsystem).await,
        // The store closes at our own shutdown.
        Err(Error::Closed) => {}
        Err(error) => core.board.degraded(subsystem, error.to_string()).await,
    }
}

/// What opening the store found that a person should look at.
async fn say_what_was_found(core: &Core) {
    let found = core.store.report();
    let mut said = Vec::new();
    if let Some(cut) = found.cut {
        said.push(format!(
            "rows up to {cut} were signed and the journal ended at row {}: it was cut, see `clawker audit verify`",
            found.last_seq
        ));
    }
    if found.key_lost {
        said.push("the host key was lost and made anew: what the old one signed is a stranger's".into());
    }
    if !said.is_empty() {
        core.board.degraded("journal-integrity", said.join("; ")).await;
    }
}
