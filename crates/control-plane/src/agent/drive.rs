//! One attested connection, from the first byte to its end.
//!
//! ```text
//! attested ─▶ containment in force, read back ─▶ preamble (bundle) ─▶ TLS, HTTP/2 ─▶ Hello ─▶ HelloAck
//!    ─▶ judged, renewed, registered ─┬─ untrusted: kept open for containment, nothing else is sent ◀─┐
//!                                    └─ trusted ─▶ plan ─▶ AgentReady ─▶ lease, renewal, reports ────┤ trust is lost
//!                                                                                     └▶ lost        │ (expired)
//!    revoked, or its key in other hands: the connection is closed, whatever it was doing ◀───────────┘
//! ```
//! Dropping the future ends the connection and everything that it started here.

mod known;
mod opening;
mod standing;

use std::convert::Infallible;
use std::sync::Arc;

use clawker_engine::register::Attested;
use clawker_identity::leaf::Claims;
use clawker_model::event::{ContainerHealth, LeaseLost, SessionConnected, SessionHalfStopped, UntrustedReason};
use clawker_model::{ContainerId, FullName, IdentityState, NetworkState, RunId};
use clawker_store::AgentRecord;
use clawker_wire::session::{Exited, Hello, HelloAck, Lease};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::attest::Init;
use super::ceiling::{Counted, Open};
use super::dial::dial;
use super::identity::{self, Distrusted, Peer, PeerCell};
use super::session::{Report, Session, SessionError};
use super::status::{AgentStatus, SessionState};
use super::{AgentError, keep, lease, prepare};
use crate::containment::View;
use crate::core::Core;
use crate::execs;
use known::Known;

/// What a connection needs to know of its agent; the agent task keeps it.
#[derive(Clone)]
pub struct Context {
    pub core: Arc<Core>,
    pub name: FullName,
    pub container: ContainerId,
    pub run: RunId,
    /// Why its container wasn't taken over, if it was judged.
    pub refused: Option<Arc<str>>,
    pub address: String,
    pub init: Arc<Init>,
    pub start: u64,
    pub attempts: u32,
    /// The name that the container's labels claim.
    pub labels: Option<FullName>,
    pub cell: Arc<PeerCell>,
    pub status: Arc<watch::Sender<AgentStatus>>,
    pub session: Arc<watch::Sender<Option<Session>>>,
    /// Told when somebody else has shown this agent's leaf.
    pub leaked: Arc<Notify>,
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The peer went away, after an established session or before.
    Lost { established: bool, why: String },
    /// The agent's identity was revoked.
    Revoked,
    /// Its key is in other hands: the next connection gets another.
    Leaked,
}

/// What comes from clawkerd by itself, and the leases that go to it meanwhile.
struct Line {
    reported: mpsc::Receiver<Report>,
    renewing: JoinSet<Result<Infallible, SessionError>>,
}

/// Runs the connection; `main_exited` is told how the agent's command ended, if the session says so.
pub async fn drive(
    ctx: Context,
    mut stream: UnixStream,
    open: Open,
    main_exited: mpsc::Sender<(u64, Exited)>,
) -> Result<End, AgentError> {
    let core = &ctx.core;
    let known = ctx.known().await;
    let ours = known.as_ref().is_ok_and(Known::init_is_ours);
    let view = core.containment.attach(ctx.target(ours).await?).await?;
    if view.asked.identity == IdentityState::Revoked {
        return Ok(End::Revoked);
    }
    let Known { record, masked } = known?;
    let identity = ctx.preamble(&mut stream, record.as_ref()).await?;
    if let Some((reason, why)) = ctx.not_taken_over() {
        // Said even of one that never shows anything.
        ctx.distrust(reason, why).await?;
    }
    let generation = identity.generation;
    let roots = core.signer.in_force().roots.clone();
    // One that knows no root in use got a bundle, or gets nothing: then it doesn't matter what it is shown.
    let root_id = roots.shown_to(&identity.knows).unwrap_or(&roots.signer).to_owned();
    ctx.cell.begin(
        Attested {
            name: ctx.name.clone(),
            container: ctx.container.clone(),
            start: ctx.start,
            generation,
            issued_key: identity.key_hash,
            issued_leaf: identity.leaf,
            recovered: identity.recovered,
        },
        ctx.labels.clone(),
        identity.knows,
    );

    let (channel, slot) = dial(core, Counted::new(stream, open), &root_id).await?;
    let (reports, reported) = mpsc::channel(64);
    let (session, reader) = Session::open(channel, reports).await?;
    let mut reading = JoinSet::new();
    reading.spawn(reader);
    let own_lease = record.as_ref().and_then(|record| record.spec.absence.lease_s);
    let own_lease = own_lease.unwrap_or(core.config.lease_seconds);
    let seconds = core.leases.of(own_lease);
    let ack = session
        .hello(Hello {
            protocol: clawker_wire::PROTOCOL,
            cp_life: core.life.clone(),
            lease: Some(Lease { seconds }),
        })
        .await?;
    // From here on, whatever the rest takes.
    let mut line = Line {
        reported,
        renewing: JoinSet::new(),
    };
    line.renewing
        .spawn(core.leases.renew(session.clone(), own_lease, ctx.answered()));

    let mut peer = identity::look(core, &slot.get(), &ctx.name, &ctx.container);
    core.store
        .append(
            Some(&ctx.name),
            SessionConnected {
                address: ctx.address.clone(),
                attempts: ctx.attempts,
                peer_cn: peer.claims.as_ref().map(|claims| claims.cn.clone()).unwrap_or_default(),
                thumbprint: peer.claims.as_ref().map(|claims| claims.thumbprint.clone()),
                start: ctx.start,
                init_life: ack.init_life.clone(),
            },
        )
        .await?;
    ctx.status
        .send_modify(|status| status.session = SessionState::Connected);
    let lost = ack.lease_lost || ack.lease_frozen;
    if lost {
        let then = record.as_ref().map(|record| record.spec.on_orphan).unwrap_or_default();
        let lost = LeaseLost {
            seconds: own_lease,
            then,
        };
        core.store.append(Some(&ctx.name), lost).await?;
    }
    core.containment.settle(&ctx.name, ctx.start).await?;
    if lost {
        // PID 1 goes on saying so until a lease comes after the thaw.
        session.lease(core.leases.of(own_lease)).await?;
    }
    identity::note_leak(core, &peer, &ctx.container).await?;

    let trusted = match ctx.judged(&session, &mut peer, record.as_ref(), &ack, masked).await? {
        Ok(trusted) => trusted,
        Err(end) => return Ok(end),
    };
    let distrusted = match (trusted, record, peer.claims) {
        (Ok(()), Some(record), Some(claims)) => {
            ctx.trust().await?;
            ctx.upgrade(&session, &ack).await?;
            ctx.session.send_replace(Some(session.clone()));
            if let Some(agent) = core.agents.get(&ctx.name) {
                execs::keep_all(core, &agent, record.created_ms, &session);
            }
            let served = ctx
                .serve(record, ack, &session, claims, generation, &mut line, main_exited)
                .await?;
            match served {
                Served::Ended(end) => return Ok(end),
                Served::Distrusted(why) => why,
            }
        }
        (Err(why), ..) => why,
        // A container that the store doesn't know was given no key, so it matched nothing.
        (Ok(()), ..) => (UntrustedReason::RegisterFailed, "the store doesn't know it".to_owned()),
    };
    let distrusted = ctx.not_taken_over().unwrap_or(distrusted);
    ctx.session.send_replace(None);
    ctx.distrust(distrusted.0, distrusted.1).await?;
    ctx.keep(line).await
}

/// How serving a trusted agent ended.
enum Served {
    Ended(End),
    /// The connection stays, for containment.
    Distrusted(Distrusted),
}

impl Context {
    /// Whether the agent is trusted; an error is an end that comes before that is known.
    async fn judged(
        &self,
        session: &Session,
        peer: &mut Peer,
        record: Option<&AgentRecord>,
        ack: &HelloAck,
        masked: Option<super::attest::Unattested>,
    ) -> Result<Result<Result<(), Distrusted>, End>, AgentError> {
        if let Some(why) = masked {
            return Ok(Ok(Err((UntrustedReason::PeerMismatch, why.to_string()))));
        }
        let mut contained = self.core.containment.watch(&self.name);
        let established = tokio::select! {
            established = identity::establish(self, session, peer) => established?,
            end = severed(&mut contained) => return Ok(Err(end)),
            () = self.leaked.notified() => return Ok(Err(End::Leaked)),
        };
        Ok(Ok(match established {
            Ok(()) if prepare::bypassed(record, ack, self.start) => {
                let detail = "the command runs, and no control plane let it".to_owned();
                Err((UntrustedReason::InitBypassed, detail))
            }
            established => established,
        }))
    }

    /// A trusted agent: prepare it, keep its identity, follow it until the connection or the trust ends.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, of what the connection has found out so far"
    )]
    async fn serve(
        &self,
        record: AgentRecord,
        ack: HelloAck,
        session: &Session,
        claims: Claims,
        generation: u64,
        line: &mut Line,
        main_exited: mpsc::Sender<(u64, Exited)>,
    ) -> Result<Served, AgentError> {
        let mut preparing = JoinSet::new();
        preparing.spawn(prepare::prepare(self.clone(), record, ack, session.clone()));
        let mut keeping = JoinSet::new();
        keeping.spawn(keep::keep(self.clone(), session.clone(), claims, generation));
        let mut contained = self.core.containment.watch(&self.name);
        let lost = |why: String| Ok(Served::Ended(End::Lost { established: true, why }));
        loop {
            tokio::select! {
                report = line.reported.recv() => match report {
                    Some(Report::Lost(why)) => return lost(why),
                    None => return lost("closed".into()),
                    Some(Report::MainExited(exited)) => {
                        session.forget_main().await;
                        // The agent task may be ending already; the container's exit code says the same.
                        let _ = main_exited.send((self.start, exited)).await;
                    }
                    Some(report) => self.note(report).await?,
                },
                Some(done) = preparing.join_next() => match done {
                    // The session says so itself, with its reason; the plan resumes on the next one.
                    Ok(Err(AgentError::Session(SessionError::Lost(_)))) => continue,
                    Ok(outcome) => outcome?,
                    Err(error) => return Err(AgentError::Preparing(error.to_string())),
                },
                Some(ended) = keeping.join_next() => return match ended {
                    Ok(Ok(distrusted)) => Ok(Served::Distrusted(distrusted)),
                    // The session says so itself, with its reason.
                    Ok(Err(AgentError::Session(SessionError::Lost(_)))) => continue,
                    Ok(Err(error)) => Err(error),
                    Err(error) => Err(AgentError::Preparing(error.to_string())),
                },
                Some(ended) = line.renewing.join_next() => return Err(lease::refused(ended)),
                end = severed(&mut contained) => return Ok(Served::Ended(end)),
                () = self.leaked.notified() => return Ok(Served::Ended(End::Leaked)),
            }
        }
    }

    /// An untrusted agent: the channel stays for containment, its lease is renewed, nothing is sent that it could use.
    async fn keep(&self, mut line: Line) -> Result<End, AgentError> {
        let mut contained = self.core.containment.watch(&self.name);
        loop {
            tokio::select! {
                report = line.reported.recv() => match report {
                    Some(Report::Lost(why)) => return Ok(End::Lost { established: true, why }),
                    None => return Ok(End::Lost { established: true, why: "closed".into() }),
                    Some(_) => {}
                },
                Some(ended) = line.renewing.join_next() => return Err(lease::refused(ended)),
                end = severed(&mut contained) => return Ok(end),
                () = self.leaked.notified() => return Ok(End::Leaked),
            }
        }
    }

    async fn note(&self, report: Report) -> Result<(), AgentError> {
        let store = &self.core.store;
        match report {
            Report::Health(health) => {
                let healthy = health.healthy;
                if self.status.borrow().health != Some(healthy) {
                    self.status.send_modify(|status| status.health = Some(healthy));
                    let container = self.container.clone();
                    let event = ContainerHealth {
                        container,
                        healthy,
                        detail: health.detail,
                    };
                    store.append(Some(&self.name), event).await?;
                }
            }
            Report::SessionHalfStopped { lives } => {
                store.append(Some(&self.name), SessionHalfStopped { lives }).await?;
            }
            Report::MainExited(_) | Report::Lost(_) => {}
        }
        Ok(())
    }
}

/// Resolves when the agent's identity has been revoked, or when its engine has taken its network away.
async fn severed(view: &mut Option<watch::Receiver<View>>) -> End {
    let disconnected = |view: &View| {
        let network = view.in_force.as_ref().map(|in_force| &in_force.network);
        view.reduced && network == Some(&NetworkState::Locked)
    };
    let revoked = |view: &View| view.asked.identity == IdentityState::Revoked;
    if let Some(watched) = view
        && let Ok(view) = watched.wait_for(|view| revoked(view) || disconnected(view)).await
    {
        return match revoked(&view) {
            true => End::Revoked,
            false => End::Lost {
                established: true,
                why: "its network is disconnected (lock-network)".to_owned(),
            },
        };
    }
    std::future::pending().await
}
