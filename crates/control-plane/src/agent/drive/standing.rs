//! How an agent stands: trusted or not, and what is said when that changes.

use clawker_model::event::{AgentTrusted, AgentUntrusted, ThresholdCrossed, UntrustedReason};

use clawker_store::Registry as _;

use super::Context;
use crate::agent::AgentError;
use crate::agent::identity::Distrusted;
use crate::agent::status::Trust;
use crate::core::now_ms;

impl Context {
    /// Notes that the agent was heard of just now.
    pub(super) fn answered(&self) -> impl Fn() + Send + use<> {
        let (core, container, status) = (self.core.clone(), self.container.clone(), self.status.clone());
        move || {
            let now = now_ms();
            core.store.seen(&container, now);
            status.send_modify(|status| status.last_seen_ms = now);
        }
    }

    /// Said once a start: whoever asks for more of them loses what it was given, or throws it away.
    pub(super) async fn too_many_bundles(&self, error: &AgentError) -> Result<(), AgentError> {
        let mut said = false;
        self.status.send_if_modified(|status| {
            said = status.bundles_exhausted;
            status.bundles_exhausted = true;
            !said
        });
        if !said {
            let crossed = ThresholdCrossed {
                what: "identity bundles".into(),
                detail: error.to_string(),
            };
            self.core.store.append(Some(&self.name), crossed).await?;
        }
        Ok(())
    }

    /// Why it isn't trusted, whatever it shows, if its container was judged and not taken over.
    pub(super) fn not_taken_over(&self) -> Option<Distrusted> {
        let why = self.refused.as_ref()?;
        Some((UntrustedReason::RegisterFailed, why.to_string()))
    }

    pub(super) async fn trust(&self) -> Result<(), AgentError> {
        let news = self.status.borrow().trust != Trust::Trusted;
        self.status.send_modify(|status| status.trust = Trust::Trusted);
        if news {
            let trusted = AgentTrusted {
                container: self.container.clone(),
                start: self.start,
            };
            self.core.store.append(Some(&self.name), trusted).await?;
        }
        Ok(())
    }

    pub async fn distrust(&self, reason: UntrustedReason, detail: String) -> Result<(), AgentError> {
        let news = self.status.borrow().trust != Trust::Untrusted(reason);
        self.status
            .send_modify(|status| status.trust = Trust::Untrusted(reason));
        // A refused registration was journaled by whoever refused it.
        if news && !(reason == UntrustedReason::RegisterFailed && detail.is_empty()) {
            self.core
                .store
                .append(
                    Some(&self.name),
                    AgentUntrusted {
                        reason,
                        detail,
                        intruder: false,
                    },
                )
                .await?;
        }
        Ok(())
    }
}
