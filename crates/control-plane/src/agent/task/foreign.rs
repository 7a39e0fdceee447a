//! Connections that aren't the container's init's: said, contained, and said no more often than it helps anybody.
//!
//! What an attacker can repeat as often as he likes must not fill the journal: of one minute the first
//! [`MOST`] are rows, the others are counted and told with the next one.

use std::sync::Arc;

use clawker_model::event::{AgentUntrusted, UntrustedReason};
use tokio::time::Instant;

use super::{AgentTask, CYCLE};
use crate::agent::attest::{Init, Unattested};

/// Rows about foreign processes in a minute.
const MOST: u32 = 16;

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Said {
    since: Option<Instant>,
    rows: u32,
    unsaid: u64,
}

impl Said {
    /// Whether one more may be said; how many weren't since the last one.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now >= since + CYCLE) {
            (self.since, self.rows) = (Some(now), 0);
        }
        if self.rows >= MOST {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.rows += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

impl AgentTask {
    /// A connection that isn't attested, on either socket.
    pub(super) async fn unattested(&mut self, why: Unattested) {
        let (detail, init) = match why {
            Unattested::NotYet(why) => {
                tracing::debug!(agent = %self.name(), why, "not yet");
                return;
            }
            Unattested::Mismatch(detail) => (detail, None),
            Unattested::Foreign { detail, init } => (detail, Some(init)),
        };
        let Some(unsaid) = self.foreign.admit(Instant::now()) else {
            return;
        };
        // The container can be contained before its init has connected: nothing but its init is needed for that.
        if let Some(init) = init {
            self.attach(&init).await;
        }
        let detail = match unsaid {
            0 => detail,
            unsaid => format!("{detail}; {unsaid} more like this went unsaid before"),
        };
        self.append(AgentUntrusted {
            reason: UntrustedReason::PeerMismatch,
            detail,
            intruder: true,
        })
        .await;
    }

    /// Gives containment the container's start to act upon.
    pub(super) async fn attach(&mut self, init: &Arc<Init>) {
        let Some(start) = self.begin(init).await else { return };
        let context = self.context(init.clone(), start);
        let ours = context.known().await.is_ok_and(|known| known.init_is_ours());
        let attached = match context.target(ours).await {
            Ok(target) => self.core.containment.attach(target).await.map_err(Into::into),
            Err(error) => Err(error),
        };
        if let Err(error) = attached {
            tracing::warn!(agent = %self.name(), %error, "attaching a container whose init didn't connect");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_foreign_connections_is_a_few_rows_and_a_count() {
        let (mut said, began) = (Said::default(), Instant::now());
        let minute = |said: &mut Said, from: Instant| -> Vec<u64> {
            let at = |n: u32| from + Duration::from_millis(u64::from(n));
            (0..1000).filter_map(|n| said.admit(at(n))).collect()
        };
        assert_eq!(minute(&mut said, began), [0; MOST as usize]);
        let next = minute(&mut said, began + CYCLE);
        assert_eq!(
            (next.len(), next[0], next[1]),
            (MOST as usize, 1000 - u64::from(MOST), 0)
        );
    }
}
