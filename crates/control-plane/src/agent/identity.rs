//! From what a peer showed to whether it is trusted: judging, classifying, renewing what ran out, registering.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clawker_engine::register::{Attested, Classified, Shown, classify};
use clawker_identity::control::Capture;
use clawker_identity::leaf::{Claims, Expected, judge};
use clawker_model::event::{
    AgentUntrusted, IdentityConfirmed, IdentityLeaked, IdentityRecovered, RegistryRow, UntrustedReason,
};
use clawker_model::{ContainerId, FullName};
use clawker_wire::session::{RegisterProof, RegisterRequired, command, response};
use rustls::pki_types::UnixTime;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::AgentError;
use super::drive::Context;
use super::session::{Session, SessionError};
use super::{keep, service};
use crate::core::{Core, random_word};
use crate::fault::fault_point;

/// How long a registration token is good for.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Why an agent isn't trusted, and what is to be said of it.
pub type Distrusted = (UntrustedReason, String);

/// What is known of the peer of an agent's current start; shared by its session and its agent socket.
#[derive(Debug, Default)]
pub struct PeerCell(Mutex<Option<Known>>);

#[derive(Debug, Clone)]
struct Known {
    attested: Attested,
    /// The name that the container's labels claim.
    labels: Option<FullName>,
    /// Ids of the roots that the agent knows.
    knows: Vec<String>,
    token: Option<(String, Instant)>,
    /// Why its registration was refused last, once it was journaled.
    refused: Option<UntrustedReason>,
}

impl PeerCell {
    /// A session began for this start: whatever token an earlier one had is gone.
    pub fn begin(&self, attested: Attested, labels: Option<FullName>, knows: Vec<String>) {
        let mut cell = self.lock();
        let refused = cell
            .as_ref()
            .filter(|known| known.attested.start == attested.start)
            .and_then(|known| known.refused);
        *cell = Some(Known {
            attested,
            labels,
            knows,
            token: None,
            refused,
        });
    }

    pub fn attested(&self) -> Option<(Attested, Option<FullName>)> {
        let cell = self.lock();
        cell.as_ref()
            .map(|known| (known.attested.clone(), known.labels.clone()))
    }

    /// Ids of the roots that the agent knows.
    pub fn knows(&self) -> Vec<String> {
        self.lock()
            .as_ref()
            .map(|known| known.knows.clone())
            .unwrap_or_default()
    }

    /// The agent has acknowledged these roots.
    pub fn learned(&self, knows: Vec<String>) {
        if let Some(known) = self.lock().as_mut() {
            known.knows = knows;
        }
    }

    /// A leaf that had run out was renewed, for the `count`th time in this start.
    fn recovered(&self, count: u32) {
        if let Some(known) = self.lock().as_mut() {
            known.attested.recovered = count;
        }
    }

    /// Notes that a registration was refused; whether that is news.
    pub fn refused(&self, reason: UntrustedReason) -> bool {
        let mut cell = self.lock();
        let Some(known) = cell.as_mut() else { return true };
        known.refused.replace(reason) != Some(reason)
    }

    fn was_refused(&self) -> bool {
        self.lock().as_ref().is_some_and(|known| known.refused.is_some())
    }

    fn mint(&self) -> Result<String, getrandom::Error> {
        let token = random_word(43)?;
        if let Some(known) = self.lock().as_mut() {
            known.token = Some((token.clone(), Instant::now() + TOKEN_LIFE));
        }
        Ok(token)
    }

    /// Whether `token` is the one in force. It isn't afterwards: a token is good once, and a wrong guess ends it too.
    pub fn burn(&self, token: &str) -> bool {
        let taken = self.lock().as_mut().and_then(|known| known.token.take());
        taken.is_some_and(|(minted, until)| {
            bool::from(minted.as_bytes().ct_eq(token.as_bytes())) && Instant::now() < until
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a handshake showed, judged.
#[derive(Debug, Clone)]
pub struct Peer {
    pub claims: Option<Claims>,
    pub shown: Option<Shown>,
    /// Why it isn't believed, also when it couldn't even be read.
    pub reason: Option<UntrustedReason>,
    pub detail: String,
    /// The key was proven, so whoever showed it has it.
    pub possession: bool,
}

/// Judges a capture against the roots in force and the attested container.
pub fn look(core: &Core, capture: &Capture, name: &FullName, container: &ContainerId) -> Peer {
    let in_force = core.signer.in_force();
    let expected = Expected {
        name,
        container,
        roots: &in_force.ders,
    };
    let judged = judge(capture, &expected, UnixTime::now());
    let shown = judged.claims.as_ref().map(|claims| Shown {
        thumbprint: claims.thumbprint.clone(),
        key_hash: claims.key_hash.clone(),
        judged: judged.verdict.clone().map_err(|distrust| distrust.reason),
        sound_but_for_its_chain: judged.sound_but_for_its_chain,
    });
    Peer {
        claims: judged.claims,
        shown,
        reason: judged.verdict.as_ref().err().map(|distrust| distrust.reason),
        detail: judged.verdict.err().map(|distrust| distrust.detail).unwrap_or_default(),
        possession: capture.possession,
    }
}

/// Whether the peer showed a leaf of another container and proved its key. Then that one's key is in other hands: it is
/// denied from now on, and its rightful holder, too, gets another.
pub async fn note_leak(core: &Core, peer: &Peer, container: &ContainerId) -> Result<(), AgentError> {
    let Some(shown) = peer.shown.as_ref().filter(|_| peer.possession) else {
        return Ok(());
    };
    let Some(owner) = core.store.registry_by_thumbprint(&shown.thumbprint).await? else {
        return Ok(());
    };
    if owner.row.container == *container {
        return Ok(());
    }
    let leaked = IdentityLeaked {
        container: owner.row.container.clone(),
        shown_by: container.clone(),
    };
    core.store.append_synced(Some(&owner.row.name), leaked).await?;
    let untrusted = AgentUntrusted {
        reason: UntrustedReason::ThumbprintMismatch,
        detail: format!("container {} showed its leaf and proved its key", container.short()),
        intruder: false,
    };
    core.store.append(Some(&owner.row.name), untrusted).await?;
    if let Some(handle) = core.agents.get(&owner.row.name) {
        handle.leaked();
    }
    Ok(())
}

/// A renewed leaf was seen: the one before it holds no longer.
pub async fn confirm(core: &Core, row: &RegistryRow, shown: &Shown) -> Result<(), AgentError> {
    if row.previous_thumbprint.is_some() && row.thumbprint == shown.thumbprint {
        let confirmed = IdentityConfirmed {
            container: row.container.clone(),
            thumbprint: row.thumbprint.clone(),
        };
        core.store.append(Some(&row.name), confirmed).await?;
    }
    Ok(())
}

/// Brings a judged peer to trust or to a reason: renews what ran out, registers what isn't known. `peer` becomes what it
/// showed last, or would show next.
pub async fn establish(
    ctx: &Context,
    session: &Session,
    peer: &mut Peer,
) -> Result<Result<(), Distrusted>, AgentError> {
    let core = &ctx.core;
    let mut pause = AGAIN_FIRST;
    let mut claimed = false;
    loop {
        let Some((attested, _)) = ctx.cell.attested() else {
            return Ok(Err((UntrustedReason::RegisterFailed, "no session".into())));
        };
        let row = match core.store.registry_row(&attested.container).await {
            Ok(row) => row,
            Err(error) => {
                // Nobody is trusted while it can't be looked up, and nobody is judged by that alone.
                core.board.degraded("registry", error.to_string()).await;
                ctx.distrust(UntrustedReason::RegistryUnavailable, error.to_string())
                    .await?;
                wait(&mut pause).await;
                continue;
            }
        };
        core.board.recovered("registry").await;
        match classify(row.as_ref(), peer.shown.as_ref(), &attested) {
            Classified::Match => {
                if let (Some(row), Some(shown)) = (&row, &peer.shown) {
                    confirm(core, row, shown).await?;
                }
                return Ok(Ok(()));
            }
            Classified::Untrusted(reason) => {
                let unread = peer.reason.filter(|_| peer.shown.is_none());
                return Ok(Err((unread.unwrap_or(reason), peer.detail.clone())));
            }
            Classified::Renewable(reason) => {
                let count = attested.recovered + 1;
                let recovered = IdentityRecovered {
                    container: attested.container.clone(),
                    start: attested.start,
                    reason,
                    count,
                };
                core.store.append_synced(Some(&ctx.name), recovered).await?;
                ctx.cell.recovered(count);
                keep::renew_now(ctx, session, attested.generation, peer).await?;
                continue;
            }
            // It says that it registered, and didn't.
            Classified::Miss if std::mem::take(&mut claimed) => {
                wait(&mut pause).await;
                continue;
            }
            Classified::Miss => {}
        }
        fault_point!("hello-before-register");
        let token = ctx.cell.mint().map_err(|error| AgentError::Random(error.to_string()))?;
        let required = command::Body::RegisterRequired(RegisterRequired { token });
        match session.call("RegisterRequired", required).await {
            Ok(response::Body::RegisterDone(done)) if done.ok => match admitted(ctx, peer, done.proof).await {
                Ok(()) => {
                    claimed = true;
                    continue;
                }
                Err(status) if status.code() == tonic::Code::Unavailable => {}
                Err(_) => return Ok(Err((UntrustedReason::RegisterFailed, String::new()))),
            },
            Ok(response::Body::RegisterDone(done)) if done.code != "Unavailable" => {
                // Refused by us: journaled there, with the reason that clawkerd isn't told.
                let detail = match ctx.cell.was_refused() {
                    true => String::new(),
                    false => format!("clawkerd says {}: {}", done.code, done.message),
                };
                return Ok(Err((UntrustedReason::RegisterFailed, detail)));
            }
            Ok(_) | Err(SessionError::Silent { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        wait(&mut pause).await;
    }
}

/// An agent elsewhere registers within its session: what it proves there is judged as a call would be.
async fn admitted(ctx: &Context, peer: &Peer, proof: Option<RegisterProof>) -> Result<(), tonic::Status> {
    let Some(proof) = proof.filter(|_| ctx.core.config.engine.is_elsewhere()) else {
        return Ok(());
    };
    let caller = service::Caller {
        core: ctx.core.clone(),
        name: ctx.name.clone(),
        container: ctx.container.clone(),
        cell: ctx.cell.clone(),
        peer: peer.clone(),
    };
    service::prove(&caller, &proof).await
}

async fn wait(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(AGAIN_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attested(start: u64) -> Attested {
        Attested {
            name: FullName::parse("clawker.a").expect("name"),
            container: ContainerId::parse(&"ab".repeat(32)).expect("id"),
            start,
            generation: 1,
            issued_key: None,
            issued_leaf: None,
            recovered: 0,
        }
    }

    fn cell() -> PeerCell {
        let cell = PeerCell::default();
        cell.begin(attested(1), None, Vec::new());
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
        cell.begin(attested, labels, Vec::new());
        assert!(!cell.burn(&token));
    }

    #[test]
    fn a_refusal_is_news_once_a_start_and_reason() {
        let cell = cell();
        assert!(cell.refused(UntrustedReason::LabelMismatch));
        assert!(!cell.refused(UntrustedReason::LabelMismatch));
        cell.begin(attested(1), None, Vec::new());
        assert!(
            !cell.refused(UntrustedReason::LabelMismatch),
            "another session of the same start"
        );
        assert!(cell.refused(UntrustedReason::RegisterFailed));
        cell.begin(attested(2), None, Vec::new());
        assert!(cell.refused(UntrustedReason::RegisterFailed), "another start");
    }
}
