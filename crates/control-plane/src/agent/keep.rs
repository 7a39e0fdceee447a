//! Keeping a trusted agent's identity: renewal over the session, at half a leaf's life and whenever the roots in force
//! change; and the end of trust when no renewal came through.
//!
//! ```text
//! due ─▶ signed for the key that the agent has ─▶ journal: rotated, both leaves hold ─▶ RotateIdentity
//!     ─▶ PID 1 has stored it ─▶ what the agent holds is known ─▶ the rotation of the roots may go on
//! ```
//! When it is due is `engine::renewal`'s; the connection goes on under the leaf that it was made with.

use std::time::Duration;

use clawker_engine::register::Shown;
use clawker_engine::renewal::{Life, Next, Renewal};
use clawker_engine::rotation::Holder;
use clawker_identity::leaf::{BACKDATE_S, Claims};
use clawker_identity::thumbprint;
use clawker_model::event::{IdentityRotated, UntrustedReason};
use clawker_wire::session::{RotateIdentity, command};
use tokio::time::Instant;

use super::AgentError;
use super::drive::Context;
use super::identity::{Distrusted, Peer};
use super::session::{Session, SessionError};
use crate::core::now_ms;
use crate::rotation::Held;
use crate::signer::InForce;

/// After a signer or a journal that failed.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// A leaf on its way.
struct Offer {
    leaf: Vec<u8>,
    claims: Claims,
    /// The roots that go with it.
    ders: Vec<Vec<u8>>,
    ids: Vec<String>,
}

/// Renews a leaf that ran out, at once; `peer` shows the new one from then on.
pub async fn renew_now(ctx: &Context, session: &Session, generation: u64, peer: &mut Peer) -> Result<(), AgentError> {
    let Some(claims) = peer.claims.clone() else {
        return Ok(());
    };
    let in_force = ctx.core.signer.in_force();
    let offer = sign(ctx, &in_force, &claims, generation).await?;
    send(session, &offer).await?;
    ctx.cell.learned(offer.ids);
    peer.shown = Some(Shown {
        thumbprint: offer.claims.thumbprint.clone(),
        key_hash: offer.claims.key_hash.clone(),
        judged: Ok(()),
        sound_but_for_its_chain: true,
    });
    peer.claims = Some(offer.claims);
    Ok(())
}

/// Keeps the identity of a session whose peer holds `claims`; returns when trust has ended, and never otherwise.
pub async fn keep(ctx: Context, session: Session, claims: Claims, generation: u64) -> Result<Distrusted, AgentError> {
    let mut roots = ctx.core.signer.watch();
    let holder = holder(&roots.borrow(), &claims, ctx.cell.knows());
    let entry = ctx.core.holders.enter(&ctx.name, holder.clone());
    let mut keeper = Keeper {
        renewal: Renewal::new(life(&claims), chance()),
        ctx,
        session,
        claims,
        generation,
        holder,
        entry,
        offer: None,
    };
    loop {
        let in_force = roots.borrow_and_update().clone();
        let outdated = !in_force.roots.is_current(&keeper.holder);
        let wait = match keeper.renewal.next(now_ms(), outdated) {
            Next::Expired => {
                let detail = "its leaf ended before a renewal was acknowledged".to_owned();
                return Ok((UntrustedReason::CertExpired, detail));
            }
            Next::Wait { until_ms } => Duration::from_millis(until_ms.saturating_sub(now_ms())),
            Next::Sign => keeper.sign(&in_force).await?,
            Next::SendAgain => {
                keeper.renewal.sent_again(now_ms());
                keeper.send().await?
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(Instant::now() + wait) => {}
            changed = roots.changed() => if changed.is_err() {
                // The signer has ended, and with it this control plane.
                std::future::pending::<()>().await;
            },
        }
    }
}

struct Keeper {
    ctx: Context,
    session: Session,
    /// The leaf that the agent holds.
    claims: Claims,
    generation: u64,
    holder: Holder,
    entry: Held,
    renewal: Renewal,
    offer: Option<Offer>,
}

impl Keeper {
    /// How long to wait after it.
    async fn sign(&mut self, in_force: &InForce) -> Result<Duration, AgentError> {
        let board = self.ctx.core.board.clone();
        match sign(&self.ctx, in_force, &self.claims, self.generation).await {
            Ok(offer) => {
                self.renewal.offered(life(&offer.claims), now_ms());
                self.offer = Some(offer);
                board.recovered("renewal").await;
                self.send().await
            }
            Err(error) => {
                board.degraded("renewal", format!("{}: {error}", self.ctx.name)).await;
                Ok(TRY_AGAIN)
            }
        }
    }

    async fn send(&mut self) -> Result<Duration, AgentError> {
        let Some(offer) = &self.offer else {
            return Ok(Duration::ZERO);
        };
        match send(&self.session, offer).await {
            Ok(()) => {}
            Err(AgentError::Session(error @ (SessionError::Refused { .. } | SessionError::Silent { .. }))) => {
                tracing::warn!(agent = %self.ctx.name, %error, "renewal");
                return Ok(Duration::ZERO);
            }
            Err(error) => return Err(error),
        }
        if let Some(offer) = self.offer.take() {
            self.renewal.acknowledged();
            self.ctx.cell.learned(offer.ids.clone());
            self.holder = holder(&self.ctx.core.signer.in_force(), &offer.claims, offer.ids);
            self.claims = offer.claims;
            self.entry.acknowledged(self.holder.clone());
        }
        Ok(Duration::ZERO)
    }
}

async fn sign(ctx: &Context, in_force: &InForce, held: &Claims, generation: u64) -> Result<Offer, AgentError> {
    let core = &ctx.core;
    let leaf = core
        .signer
        .renewed_leaf(&ctx.name, &ctx.container, held.spki.clone())
        .await?;
    let claims = Claims::read(&leaf).map_err(|error| AgentError::Bundle(error.to_string()))?;
    let rotated = IdentityRotated {
        container: ctx.container.clone(),
        generation,
        thumbprint: claims.thumbprint.clone(),
        held: Some(held.thumbprint.clone()),
        not_after: claims.not_after,
    };
    core.store.append_synced(Some(&ctx.name), rotated).await?;
    Ok(Offer {
        leaf,
        claims,
        ids: in_force.ders.iter().map(|root| thumbprint(root)).collect(),
        ders: in_force.ders.clone(),
    })
}

async fn send(session: &Session, offer: &Offer) -> Result<(), AgentError> {
    let rotate = RotateIdentity {
        leaf: offer.leaf.clone().into(),
        roots: offer.ders.iter().map(|root| root.clone().into()).collect(),
    };
    session
        .tell("RotateIdentity", command::Body::RotateIdentity(rotate))
        .await?;
    Ok(())
}

/// What an agent with this leaf and these roots holds. Its leaf's root is the one whose subject is the leaf's issuer.
fn holder(in_force: &InForce, claims: &Claims, knows: Vec<String>) -> Holder {
    let signed_by = in_force
        .ders
        .iter()
        .find(|root| Claims::read(root).is_ok_and(|root| root.subject == claims.issuer));
    Holder {
        roots: knows.into_iter().collect(),
        leaf_root: signed_by.map(|root| thumbprint(root)).unwrap_or_default(),
    }
}

fn life(claims: &Claims) -> Life {
    let millis = |seconds: i64| u64::try_from(seconds).unwrap_or(0) * 1000;
    Life {
        from_ms: millis(claims.not_before + BACKDATE_S),
        until_ms: millis(claims.not_after),
    }
}

/// From 0 to 1, so that agents of the same age don't all renew in one moment.
fn chance() -> f64 {
    let mut byte = [0u8; 1];
    // Without randomness they do.
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
