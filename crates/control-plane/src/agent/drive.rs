//! One attested connection, from the first byte to its end.
//!
//! ```text
//! attested ─▶ containment in force, read back ─▶ preamble (bundle) ─▶ TLS, HTTP/2 ─▶ Hello ─▶ HelloAck
//!    ─▶ judged, registered ─┬─ untrusted: kept open for containment, nothing else is sent
//!                           └─ trusted ─▶ containment settled ─▶ plan ─▶ AgentReady ─▶ lease, reports … lost
//! ```
//! Dropping the future ends the connection and everything that it started here.

use std::sync::Arc;

use clawker_engine::register::Attested;
use clawker_model::event::{AgentUntrusted, ContainerHealth, SessionConnected, SessionHalfStopped, UntrustedReason};
use clawker_model::{ContainerId, FullName, IdentityState, RunId};
use clawker_proc::cgroup::AgentCgroup;
use clawker_store::AgentRecord;
use clawker_wire::session::{Exited, Hello, HelloAck, Lease};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, MissedTickBehavior};

use super::attest::{Init, mounts_intact};
use super::bundle::{self, InForce, Need};
use super::dial::dial;
use super::identity::{self, PeerCell};
use super::session::{Report, Session};
use super::status::{AgentStatus, SessionState, Trust};
use super::{AgentError, prepare};
use crate::containment::Target;
use crate::core::{Core, now_ms};

/// What a connection needs to know of its agent; the agent task keeps it.
#[derive(Clone)]
pub struct Context {
    pub core: Arc<Core>,
    pub name: FullName,
    pub container: ContainerId,
    pub run: RunId,
    pub address: String,
    pub init: Arc<Init>,
    pub start: u64,
    pub attempts: u32,
    /// The name that the container's labels claim.
    pub labels: Option<FullName>,
    pub cell: Arc<PeerCell>,
    pub status: Arc<watch::Sender<AgentStatus>>,
    pub session: Arc<watch::Sender<Option<Session>>>,
    /// The leaf in force was found expired by the connection before this one.
    pub expired: bool,
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The peer went away, after an established session or before.
    Lost { established: bool, why: String },
    /// Its leaf is out of date; the next connection gets a new one.
    LeafExpired,
    /// The agent's identity was revoked.
    Revoked,
}

/// Runs the connection; `main_exited` is told how the agent's command ended, if the session says so.
pub async fn drive(
    ctx: Context,
    mut stream: UnixStream,
    main_exited: mpsc::Sender<(u64, Exited)>,
) -> Result<End, AgentError> {
    let core = &ctx.core;
    let view = core.containment.attach(ctx.target()?).await?;
    if view.asked.identity == IdentityState::Revoked {
        return Ok(End::Revoked);
    }
    let mut record = core.store.agent_by_container(&ctx.container).await?;
    let masked = match &record {
        Some(_) => mounts_intact(&ctx.init, &ctx.run).err(),
        None => None,
    };
    if masked.is_some() {
        // Whatever runs as this container's init, it isn't what we put there: it gets no identity.
        record = None;
    }
    let in_force = ctx.preamble(&mut stream, record.as_ref()).await?;
    ctx.cell.begin(
        Attested {
            container: ctx.container.clone(),
            start: ctx.start,
            generation: in_force.generation,
            issued_key: in_force.key_hash,
        },
        ctx.labels.clone(),
    );

    let (channel, slot) = dial(core, stream).await?;
    let (reports, mut reported) = mpsc::channel(64);
    let (session, reader) = Session::open(channel, reports).await?;
    let mut reading = JoinSet::new();
    reading.spawn(reader);
    let lease = core.config.lease_seconds;
    let ack = session
        .hello(Hello {
            protocol: clawker_wire::PROTOCOL,
            cp_life: core.life.clone(),
            lease: Some(Lease { seconds: lease }),
        })
        .await?;

    let capture = slot.get();
    let (claims, shown, judged) = identity::shown(core, &capture, &ctx.name, &ctx.container);
    core.store
        .append(
            Some(&ctx.name),
            SessionConnected {
                address: ctx.address.clone(),
                attempts: ctx.attempts,
                peer_cn: claims.as_ref().map(|claims| claims.cn.clone()).unwrap_or_default(),
                thumbprint: claims.as_ref().map(|claims| claims.thumbprint.clone()),
                start: ctx.start,
                init_life: ack.init_life.clone(),
            },
        )
        .await?;
    ctx.status
        .send_modify(|status| status.session = SessionState::Connected);
    core.containment.settle(&ctx.name, ctx.start).await?;
    if ack.lease_frozen {
        // PID 1 goes on saying so until a lease comes after the thaw.
        session.lease(lease).await?;
    }

    let mut trusted = match &judged {
        Err(distrust) => Err((distrust.reason, distrust.detail.clone())),
        Ok(()) => identity::establish(core, &session, &ctx.cell, shown.as_ref())
            .await?
            .map_err(|reason| (reason, String::new())),
    };
    if let Some(why) = masked {
        trusted = Err((UntrustedReason::PeerMismatch, why.to_string()));
    }
    if trusted.is_ok() && prepare::bypassed(record.as_ref(), &ack, ctx.start) {
        let detail = "the command runs, and no control plane let it".to_owned();
        trusted = Err((UntrustedReason::InitBypassed, detail));
    }
    match trusted {
        Ok(()) => ctx.status.send_modify(|status| status.trust = Trust::Trusted),
        Err((UntrustedReason::CertExpired, _)) if ctx.renewable(record.as_ref(), shown.as_ref()) => {
            return Ok(End::LeafExpired);
        }
        Err((reason, detail)) => ctx.distrust(reason, detail).await?,
    }
    if let (true, Some(record)) = (ctx.trusted(), record) {
        ctx.session.send_replace(Some(session.clone()));
        return ctx.serve(record, ack, session, &mut reported, main_exited).await;
    }
    ctx.keep(session, &mut reported).await
}

impl Context {
    fn target(&self) -> Result<Target, AgentError> {
        let netns = self
            .init
            .netns
            .try_clone()
            .map_err(|source| AgentError::Preamble { source })?;
        Ok(Target {
            agent: self.name.clone(),
            container: self.container.clone(),
            start: self.start,
            init: self.init.pidfd.clone(),
            init_pid: self.init.pid,
            netns,
            cgroup: self.core.cgroup_path(&self.container),
        })
    }

    fn trusted(&self) -> bool {
        self.status.borrow().trust == Trust::Trusted
    }

    /// Exchanges the preamble. A container that the store doesn't know gets no identity.
    async fn preamble(&self, stream: &mut UnixStream, record: Option<&AgentRecord>) -> Result<InForce, AgentError> {
        let core = &self.core;
        let held = bundle::read(stream).await?;
        let cgroup = AgentCgroup::create(&core.cgroup_path(&self.container))
            .map_err(|source| AgentError::Preamble { source })?;
        let (in_force, sealed) = match record {
            None => (
                InForce {
                    generation: held.held_generation,
                    key_hash: None,
                },
                None,
            ),
            Some(record) if !self.expired && bundle::keeps(&held, record, self.start, &core.authority.root_id()) => {
                let key_hash = record.issued.as_ref().map(|issued| issued.key_hash.clone());
                (
                    InForce {
                        generation: held.held_generation,
                        key_hash,
                    },
                    None,
                )
            }
            Some(record) => {
                let need = Need {
                    held: held.held_generation,
                    expired: self.expired,
                };
                let issued = bundle::issue(core, &self.name, &self.container, record, self.start, need).await?;
                (issued.0, Some(issued.1))
            }
        };
        bundle::send(stream, self.start, in_force.generation, sealed, &cgroup).await?;
        Ok(in_force)
    }

    /// An expired leaf heals by itself when it is the one that we issued: the attestation is fresh.
    fn renewable(&self, record: Option<&AgentRecord>, shown: Option<&clawker_engine::register::Shown>) -> bool {
        let issued = record.and_then(|record| record.issued.as_ref());
        issued.is_some_and(|issued| shown.is_some_and(|shown| shown.key_hash == issued.key_hash))
    }

    async fn distrust(&self, reason: UntrustedReason, detail: String) -> Result<(), AgentError> {
        let news = self.status.borrow().trust != Trust::Untrusted(reason);
        self.status
            .send_modify(|status| status.trust = Trust::Untrusted(reason));
        if news {
            self.core
                .store
                .append(Some(&self.name), AgentUntrusted { reason, detail })
                .await?;
        }
        Ok(())
    }

    /// A trusted agent: prepare it, then follow it until the connection ends.
    async fn serve(
        &self,
        record: AgentRecord,
        ack: HelloAck,
        session: Session,
        reported: &mut mpsc::Receiver<Report>,
        main_exited: mpsc::Sender<(u64, Exited)>,
    ) -> Result<End, AgentError> {
        let mut preparing = JoinSet::new();
        preparing.spawn(prepare::prepare(self.clone(), record, ack, session.clone()));
        let mut leases = self.lease_ticks();
        let mut contained = self.core.containment.watch(&self.name);
        loop {
            tokio::select! {
                report = reported.recv() => match report {
                    Some(Report::Lost(why)) => return Ok(End::Lost { established: true, why }),
                    None => return Ok(End::Lost { established: true, why: "closed".into() }),
                    Some(Report::MainExited(exited)) => {
                        session.forget_main().await;
                        // The agent task may be ending already; the container's exit code says the same.
                        let _ = main_exited.send((self.start, exited)).await;
                    }
                    Some(report) => self.note(report).await?,
                },
                Some(done) = preparing.join_next() => match done {
                    Ok(outcome) => outcome?,
                    Err(error) => return Err(AgentError::Preparing(error.to_string())),
                },
                _ = leases.tick() => self.renew(&session).await?,
                () = revoked(&mut contained) => return Ok(End::Revoked),
            }
        }
    }

    /// An untrusted agent: the channel stays for containment, its lease is renewed, nothing is sent that it could use.
    async fn keep(&self, session: Session, reported: &mut mpsc::Receiver<Report>) -> Result<End, AgentError> {
        let mut leases = self.lease_ticks();
        let mut contained = self.core.containment.watch(&self.name);
        loop {
            tokio::select! {
                report = reported.recv() => match report {
                    Some(Report::Lost(why)) => return Ok(End::Lost { established: true, why }),
                    None => return Ok(End::Lost { established: true, why: "closed".into() }),
                    Some(_) => {}
                },
                _ = leases.tick() => self.renew(&session).await?,
                () = revoked(&mut contained) => return Ok(End::Revoked),
            }
        }
    }

    /// The lease is sent again every quarter of it; the first was in Hello.
    fn lease_ticks(&self) -> tokio::time::Interval {
        let quarter = Duration::from_millis(u64::from(self.core.config.lease_seconds) * 250);
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + quarter, quarter);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    async fn renew(&self, session: &Session) -> Result<(), AgentError> {
        session.lease(self.core.config.lease_seconds).await?;
        self.status.send_modify(|status| status.last_seen_ms = now_ms());
        Ok(())
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

/// Resolves when the agent's identity has been revoked.
async fn revoked(view: &mut Option<watch::Receiver<crate::containment::View>>) {
    if let Some(view) = view
        && view
            .wait_for(|view| view.asked.identity == IdentityState::Revoked)
            .await
            .is_ok()
    {
        return;
    }
    std::future::pending().await
}
