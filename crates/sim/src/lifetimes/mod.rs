//! Identities over many lifetimes (figure R6): short leaves, rotations of the host's root that are cut at each phase,
//! sessions that break in the middle of a renewal, an outage longer than a leaf's life.
//!
//! ```text
//! each quarter of a second, while the control plane lives:
//!   every agent: connect ─▶ classified, registered, recovered ─▶ renewed when due ─▶ a call a second
//!   the rotation: next step? ─▶ cut before, within or after it ─▶ everything in memory is lost ─▶ again
//! ```
//! Real here: the authority on disk, TLS of both sides, judging, classify and admit, the registry's rules, renewal and
//! rotation. The simulation's own: the clock, chance, and the order in which the control plane asks them, which is that
//! of `control-plane/src/agent/{identity,keep}.rs` and `rotation.rs`.

mod agent;
mod rotate;
mod seat;

use std::path::PathBuf;

use clawker_engine::rotation::Roots;
use clawker_identity::authority::{Authority, AuthorityError, CONTROL_PLANE_LIFE, Validity};
use clawker_identity::{Credentials, TlsError, thumbprint};
use clawker_model::identity::RotationPhase;
use clawker_model::{ContainerId, FullName};
use clawker_store::Memory;

use crate::clock::Clock;
use agent::Agent;
use seat::Seat;

/// What is played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub agents: u32,
    /// How long a leaf lives, seconds.
    pub leaf_s: u32,
    /// How many lives of a leaf the simulation lasts.
    pub lifetimes: u32,
    /// Rotations of the host's root, at even distances; each of their steps is cut once.
    pub rotations: u32,
    /// How many lives of a leaf the control plane is away, once, in the middle.
    pub outage: u32,
    /// Of all that is left to chance.
    pub seed: u64,
}

impl Plan {
    /// Figure R6 in full.
    pub const FULL: Self = Self {
        agents: 50,
        leaf_s: 10,
        lifetimes: 1000,
        rotations: 20,
        outage: 3,
        seed: 6,
    };
    /// The same in seconds.
    pub const SHORT: Self = Self {
        agents: 10,
        leaf_s: 10,
        lifetimes: 60,
        rotations: 4,
        outage: 3,
        seed: 6,
    };
}

/// What it came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Calls of connected agents.
    pub calls: u64,
    pub failed: u64,
    /// The first of what failed, with the simulated second.
    pub why: Vec<String>,
    pub connects: u64,
    pub renewals: u64,
    /// Renewals of leaves that had run out.
    pub recoveries: u64,
    /// Identities with a new key.
    pub bundles: u64,
    /// Rotations that came to their end.
    pub rotations: u64,
    pub crashes: u64,
    /// Sessions that broke while a renewal was on its way.
    pub broken: u64,
    pub simulated_s: u64,
}

/// Why a simulation couldn't go on, or a step of it failed.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Config(#[from] TlsError),
    #[error("the handshake: {0}")]
    Handshake(#[from] rustls::Error),
    #[error("the renewal: {0}")]
    Renewal(#[from] clawker_identity::agent::RenewalError),
    #[error("reading a leaf: {0}")]
    Leaf(#[from] clawker_identity::leaf::Distrust),
    #[error("the registry: {0}")]
    Registry(#[from] clawker_store::Error),
    #[error("a name of the simulation's own: {0}")]
    Name(#[from] clawker_model::NameError),
    #[error("an id of the simulation's own: {0}")]
    Id(#[from] clawker_model::IdError),
    #[error("the folder: {0}")]
    Folder(#[from] std::io::Error),
    #[error("PID 1 holds no identity")]
    NoIdentity,
    #[error("not believed: {0}")]
    Untrusted(String),
}

/// A step of the clock, milliseconds.
const TICK: u64 = 250;
/// How long a control plane that was killed is away, milliseconds.
const RESTART: u64 = 500;
/// How long a rotation waits after a restart in its middle, milliseconds (control-plane/src/rotation.rs).
const SETTLE: u64 = 10_000;
/// Reasons that are kept.
const REASONS: usize = 20;

/// The control plane, with what outlives it.
struct Sim {
    plan: Plan,
    clock: Clock,
    began_ms: u64,
    chance: fastrand::Rng,
    dir: PathBuf,
    authority: Authority,
    registry: Memory,
    /// It is away until then.
    away_ms: u64,
    /// No rotation goes on before then.
    settle_ms: u64,
    /// Somebody asked for a rotation, and it hasn't begun.
    asked: bool,
    /// Which step of the rotation is cut next, and how.
    cuts: rotate::Cuts,
    outcome: Outcome,
}

/// Plays `plan`. Needs no root, network or Docker.
pub fn run(plan: &Plan) -> Result<Outcome, SimError> {
    let dir = tempfile::Builder::new().prefix("clawker-lifetimes-").tempdir()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let began_ms = now.map_or(0, |now| now.as_millis().try_into().unwrap_or(0));
    let mut seats = (0..plan.agents).map(seat).collect::<Result<Vec<_>, _>>()?;
    let mut sim = Sim {
        plan: plan.clone(),
        clock: Clock::at(began_ms),
        began_ms,
        chance: fastrand::Rng::with_seed(plan.seed),
        authority: Authority::open(dir.path())?,
        dir: dir.path().to_owned(),
        registry: Memory::new(),
        away_ms: 0,
        settle_ms: 0,
        asked: false,
        cuts: rotate::Cuts::default(),
        outcome: Outcome::default(),
    };
    let end = began_ms + u64::from(plan.lifetimes) * sim.life_ms();
    while sim.clock.now_ms() < end {
        sim.schedule(&mut seats);
        if sim.clock.now_ms() >= sim.away_ms {
            for seat in &mut seats {
                sim.turn(seat);
            }
            sim.rotate(&mut seats)?;
        }
        sim.clock.advance(TICK);
    }
    sim.outcome.simulated_s = (sim.clock.now_ms() - began_ms) / 1000;
    Ok(sim.outcome)
}

fn seat(n: u32) -> Result<Seat, SimError> {
    Ok(Seat::new(Agent {
        name: FullName::parse(&format!("clawker.sim.agent-{n}"))?,
        container: ContainerId::parse(&format!("{n:064x}"))?,
        held: None,
        generation: 0,
    }))
}

impl Sim {
    fn life_ms(&self) -> u64 {
        u64::from(self.plan.leaf_s) * 1000
    }

    fn leaf(&self) -> Validity {
        Validity::at(self.clock.now_s(), time::Duration::seconds(i64::from(self.plan.leaf_s)))
    }

    fn roots(&self) -> Roots {
        let mut ids = self.authority.root_ids().into_iter();
        Roots {
            phase: self.authority.phase(),
            signer: ids.next().unwrap_or_default(),
            other: ids.next(),
            signer_not_after: self.authority.not_after(),
        }
    }

    /// The control plane's own leaf, under a root that the agent knows.
    fn own(&self, agent: &Agent) -> Result<Credentials, SimError> {
        let roots = self.roots();
        let root = roots.shown_to(&agent.knows()).unwrap_or(&roots.signer);
        let validity = Validity::at(self.clock.now_s(), CONTROL_PLANE_LIFE);
        Ok(self.authority.control_plane_leaf_under(root, validity)?)
    }

    /// Which root signed this leaf.
    fn root_of(&self, issuer: &[u8]) -> String {
        let roots = self.authority.roots();
        let of = roots
            .iter()
            .find(|root| clawker_identity::leaf::Claims::read(root).is_ok_and(|root| root.subject == issuer));
        of.map(|root| thumbprint(root)).unwrap_or_default()
    }

    /// A time by chance, up to `max` milliseconds.
    fn soon(&mut self, max: u64) -> u64 {
        self.clock.now_ms() + self.chance.u64(0..=max)
    }

    fn fail(&mut self, agent: &Agent, error: &dyn std::fmt::Display) {
        self.outcome.failed += 1;
        if self.outcome.why.len() < REASONS {
            let second = (self.clock.now_ms() - self.began_ms) / 1000;
            self.outcome.why.push(format!("{second} s, {}: {error}", agent.name));
        }
    }

    /// What happens by the plan: the next rotation is asked for, the outage comes.
    fn schedule(&mut self, seats: &mut [Seat]) {
        let (now, life) = (self.clock.now_ms() - self.began_ms, self.life_ms());
        let all = u64::from(self.plan.lifetimes) * life;
        let asked = u64::from(self.plan.rotations + 1) * now / all.max(1);
        if asked > self.outcome.rotations && !self.asked && self.authority.phase() == RotationPhase::Standby {
            self.asked = true;
            // Every fourth one passes an agent by that is away from its begin to its end.
            let nth = usize::try_from(asked).unwrap_or(0);
            if nth % 4 == 1
                && let Some(seat) = seats.get_mut(nth % self.plan.agents.max(1) as usize)
            {
                seat.leave();
            }
        }
        if now / TICK == all / 2 / TICK {
            let outage = u64::from(self.plan.outage) * life;
            self.crash(seats, outage);
        }
    }

    /// Everything in memory is gone, for so long.
    fn crash(&mut self, seats: &mut [Seat], away_ms: u64) {
        self.outcome.crashes += 1;
        self.away_ms = self.clock.now_ms() + away_ms;
        self.settle_ms = self.away_ms + SETTLE;
        for seat in seats {
            let back = self.away_ms + self.chance.u64(0..=250);
            seat.lose(back);
        }
    }
}
