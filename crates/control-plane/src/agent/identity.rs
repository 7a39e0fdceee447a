//! From what a peer showed to whether it is trusted: judging, classifying, registering.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clawker_engine::register::{Attested, Classified, Shown, classify};
use clawker_identity::control::Capture;
use clawker_identity::leaf::{Claims, Distrust, Expected, judge};
use clawker_model::event::UntrustedReason;
use clawker_model::{ContainerId, FullName};
use clawker_wire::session::{RegisterRequired, command, response};
use rustls::pki_types::UnixTime;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::AgentError;
use super::session::{Session, SessionError};
use crate::core::{Core, random_word};
use crate::fault::fault_point;

/// How long a registration token is good for.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// What is known of the peer of an agent's current start; shared by its session and its agent socket.
#[derive(Debug, Default)]
pub struct PeerCell(Mutex<Option<Peer>>);

#[derive(Debug, Clone)]
struct Peer {
    attested: Attested,
    /// The name that the container's labels claim.
    labels: Option<FullName>,
    token: Option<(String, Instant)>,
}

impl PeerCell {
    /// A session began for this start: whatever token an earlier one had is gone.
    pub fn begin(&self, attested: Attested, labels: Option<FullName>) {
        *self.lock() = Some(Peer {
            attested,
            labels,
            token: None,
        });
    }

    pub fn attested(&self) -> Option<(Attested, Option<FullName>)> {
        self.lock()
            .as_ref()
            .map(|peer| (peer.attested.clone(), peer.labels.clone()))
    }

    fn mint(&self) -> Result<String, getrandom::Error> {
        let token = random_word(43)?;
        if let Some(peer) = self.lock().as_mut() {
            peer.token = Some((token.clone(), Instant::now() + TOKEN_LIFE));
        }
        Ok(token)
    }

    /// Whether `token` is the one in force. It isn't afterwards: a token is good once, and a wrong guess ends it too.
    pub fn burn(&self, token: &str) -> bool {
        let taken = self.lock().as_mut().and_then(|peer| peer.token.take());
        taken.is_some_and(|(minted, until)| {
            bool::from(minted.as_bytes().ct_eq(token.as_bytes())) && Instant::now() < until
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Judges a capture against the host's root and the attested container.
pub fn shown(
    core: &Core,
    capture: &Capture,
    name: &FullName,
    container: &ContainerId,
) -> (Option<Claims>, Option<Shown>, Result<(), Distrust>) {
    let roots = [core.authority.root().to_vec()];
    let (claims, judged) = judge(
        capture,
        &Expected {
            name,
            container,
            roots: &roots,
        },
        UnixTime::now(),
    );
    let shown = claims.as_ref().map(|claims| Shown {
        thumbprint: claims.thumbprint.clone(),
        key_hash: claims.key_hash.clone(),
        judged: judged.clone().map_err(|distrust| distrust.reason),
    });
    (claims, shown, judged)
}

/// Brings a judged peer to trust or to a reason, registering it if need be.
pub async fn establish(
    core: &Core,
    session: &Session,
    cell: &PeerCell,
    shown: Option<&Shown>,
) -> Result<Result<(), UntrustedReason>, AgentError> {
    let mut pause = AGAIN_FIRST;
    loop {
        let Some((attested, _)) = cell.attested() else {
            return Ok(Err(UntrustedReason::RegisterFailed));
        };
        let row = core.store.registry_row(&attested.container).await?;
        match classify(row.as_ref(), shown, &attested) {
            Classified::Match => return Ok(Ok(())),
            Classified::Untrusted(reason) => return Ok(Err(reason)),
            Classified::Miss => {}
        }
        fault_point!("hello-before-register");
        let token = cell.mint().map_err(|error| AgentError::Random(error.to_string()))?;
        let required = command::Body::RegisterRequired(RegisterRequired { token });
        match session.call("RegisterRequired", required).await {
            Ok(response::Body::RegisterDone(done)) if done.ok => continue,
            Ok(response::Body::RegisterDone(done)) if done.code != "Unavailable" => {
                return Ok(Err(UntrustedReason::RegisterFailed));
            }
            Ok(_) | Err(SessionError::Silent { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell() -> PeerCell {
        let cell = PeerCell::default();
        let container = ContainerId::parse(&"ab".repeat(32)).expect("id");
        cell.begin(
            Attested {
                container,
                start: 1,
                generation: 1,
                issued_key: None,
            },
            None,
        );
        cell
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_once_and_for_a_minute() {
        let cell = cell();
        let token = cell.mint().expect("random");
        assert!(cell.burn(&token));
        assert!(!cell.burn(&token), "used twice");

        let token = cell.mint().expect("random");
        assert!(!cell.burn("guess"));
        assert!(!cell.burn(&token), "good after a wrong guess");

        let token = cell.mint().expect("random");
        tokio::time::advance(TOKEN_LIFE).await;
        assert!(!cell.burn(&token), "good after its minute");
    }

    #[tokio::test]
    async fn a_token_ends_with_its_session() {
        let cell = cell();
        let token = cell.mint().expect("random");
        let (attested, labels) = cell.attested().expect("begun");
        cell.begin(attested, labels);
        assert!(!cell.burn(&token));
    }
}
