//! One agent and what the control plane makes of it: connected, known, renewed, answered.

use clawker_engine::register::{Admission, Attested, Claim, Classified, Shown, Token, admit, classify};
use clawker_engine::renewal::{Life, Next, Renewal};
use clawker_engine::rotation::Holder;
use clawker_identity::control::Capture;
use clawker_identity::leaf::{BACKDATE_S, Claims, Expected, judge};
use clawker_identity::thumbprint;
use clawker_model::Thumbprint;
use clawker_model::event::{IdentityRotated, RegistryRow};
use clawker_store::{Candidate, Error as StoreError, Registry as _};
use futures::executor::block_on;

use super::agent::Agent;
use super::{Sim, SimError};

/// The start that is simulated: no agent is ever started again.
const START: u64 = 1;
/// A renewal in so many breaks its session.
const BREAKS: u32 = 40;
/// A call a second.
const CALL_MS: u64 = 1000;
/// Hello comes to an end within so many answers.
const ROUNDS: u32 = 4;

#[derive(Debug)]
pub(super) struct Seat {
    agent: Agent,
    /// The identity issued last, as the journal has it.
    issued: Option<Issued>,
    session: Option<Session>,
    /// It connects no sooner, in milliseconds.
    connects_ms: u64,
    /// Its network half is gone, and comes back when the rotation has passed it by.
    away: bool,
    calls_ms: u64,
}

#[derive(Debug, Clone)]
struct Issued {
    generation: u64,
    key_hash: String,
    leaf: Thumbprint,
    recovered: u32,
}

#[derive(Debug)]
struct Session {
    renewal: Renewal,
    claims: Claims,
    holder: Holder,
    offer: Option<Offer>,
}

#[derive(Debug)]
struct Offer {
    leaf: Vec<u8>,
    roots: Vec<Vec<u8>>,
}

impl Seat {
    pub fn new(agent: Agent) -> Self {
        Self {
            agent,
            issued: None,
            session: None,
            connects_ms: 0,
            away: false,
            calls_ms: 0,
        }
    }

    /// Its session is lost; it comes again at `back`.
    pub fn lose(&mut self, back: u64) {
        (self.session, self.connects_ms) = (None, back);
    }

    pub fn leave(&mut self) {
        (self.session, self.away) = (None, true);
    }

    pub fn come_back(&mut self) {
        self.away = false;
    }

    /// What it has acknowledged, if it is connected.
    pub fn holder(&self) -> Option<&Holder> {
        self.session.as_ref().map(|session| &session.holder)
    }
}

impl Sim {
    /// One tick of one agent. What fails is counted, and the agent comes again.
    pub(super) fn turn(&mut self, seat: &mut Seat) {
        let now = self.clock.now_ms();
        if seat.away || now < seat.connects_ms {
            return;
        }
        let done = match seat.session.take() {
            None => self.connect(seat).map(Some),
            Some(session) => self.keep(seat, session),
        };
        match done {
            Ok(session) => seat.session = session,
            Err(error) => {
                self.fail(&seat.agent, &error);
                let back = self.soon(250);
                seat.lose(back);
            }
        }
        if seat.session.is_some() && now >= seat.calls_ms + CALL_MS {
            seat.calls_ms = now;
            self.outcome.calls += 1;
            if let Err(error) = self.call(seat) {
                self.fail(&seat.agent, &error);
            }
        }
    }

    fn row(&self, seat: &Seat) -> Result<Option<RegistryRow>, SimError> {
        match block_on(self.registry.lookup_by_container(&seat.agent.container)) {
            Ok(entry) => Ok(Some(entry.row)),
            Err(StoreError::UnknownAgent) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a handshake showed, as the control plane judges it.
    fn look(&self, agent: &Agent, capture: &Capture) -> Result<(Claims, Shown), SimError> {
        let roots = self.authority.roots();
        let expected = Expected {
            name: &agent.name,
            container: &agent.container,
            roots: &roots,
        };
        let judged = judge(capture, &expected, self.clock.unix());
        let verdict = judged.verdict.clone().map_err(|distrust| distrust.reason);
        let claims = match judged.claims {
            Some(claims) => claims,
            None => return Err(SimError::Untrusted(format!("{verdict:?}"))),
        };
        let shown = Shown {
            thumbprint: claims.thumbprint.clone(),
            key_hash: claims.key_hash.clone(),
            judged: verdict,
            sound_but_for_its_chain: judged.sound_but_for_its_chain,
        };
        Ok((claims, shown))
    }

    /// The preamble: a new identity for whoever knows no root in use, or holds another generation than the one issued.
    fn preamble(&mut self, seat: &mut Seat) -> Result<Issued, SimError> {
        let agent = &mut seat.agent;
        if let Some(issued) = &seat.issued
            && issued.generation == agent.generation
            && self.roots().shown_to(&agent.knows()).is_some()
        {
            return Ok(issued.clone());
        }
        let credentials = self
            .authority
            .agent_leaf_for(&agent.name, &agent.container, self.leaf())?;
        let claims = Claims::read(&credentials.leaf)?;
        let before = seat.issued.as_ref().map_or(0, |issued| issued.generation);
        let issued = Issued {
            generation: before.max(agent.generation) + 1,
            key_hash: claims.key_hash,
            leaf: claims.thumbprint,
            recovered: 0,
        };
        self.outcome.bundles += 1;
        (agent.held, agent.generation) = (Some(credentials), issued.generation);
        seat.issued = Some(issued.clone());
        Ok(issued)
    }

    /// From the preamble to trust.
    fn connect(&mut self, seat: &mut Seat) -> Result<Session, SimError> {
        self.outcome.connects += 1;
        let mut issued = self.preamble(seat)?;
        let capture = seat.agent.session(&self.own(&seat.agent)?, &self.clock)?;
        let (mut claims, mut shown) = self.look(&seat.agent, &capture)?;
        for _ in 0..ROUNDS {
            let attested = Attested {
                name: seat.agent.name.clone(),
                container: seat.agent.container.clone(),
                start: START,
                generation: issued.generation,
                issued_key: Some(issued.key_hash.clone()),
                issued_leaf: Some(issued.leaf.clone()),
                recovered: issued.recovered,
            };
            let row = self.row(seat)?;
            match classify(row.as_ref(), Some(&shown), &attested) {
                Classified::Match => {
                    block_on(self.registry.settle(&seat.agent.container, &shown.thumbprint))?;
                    return Ok(self.session(seat, claims));
                }
                Classified::Miss => self.register(&seat.agent, &shown, &attested, row.as_ref())?,
                Classified::Renewable(_) => {
                    self.outcome.recoveries += 1;
                    issued.recovered += 1;
                    seat.issued = Some(issued.clone());
                    let offer = self.sign(seat, &claims, issued.generation)?;
                    seat.agent.rotate(offer.leaf.clone(), offer.roots, &self.clock)?;
                    let shows = Capture {
                        leaf: Some(offer.leaf),
                        possession: true,
                    };
                    (claims, shown) = self.look(&seat.agent, &shows)?;
                }
                Classified::Untrusted(reason) => return Err(SimError::Untrusted(reason.to_string())),
            }
        }
        Err(SimError::Untrusted("Hello came to no end".into()))
    }

    fn register(
        &mut self,
        agent: &Agent,
        shown: &Shown,
        attested: &Attested,
        row: Option<&RegistryRow>,
    ) -> Result<(), SimError> {
        let claim = Claim {
            project: agent.name.project().map_or("", |project| project.as_str()),
            agent: agent.name.agent().as_str(),
            token: Token::Valid,
        };
        let labels = Some(&agent.name);
        match admit(&claim, Some(shown), attested, labels, row, self.clock.now_ms()) {
            Admission::Admit(row) => {
                block_on(self.registry.add(Candidate::from(row)))?;
                Ok(())
            }
            other => Err(SimError::Untrusted(format!("Register: {other:?}"))),
        }
    }

    fn session(&mut self, seat: &Seat, claims: Claims) -> Session {
        Session {
            renewal: Renewal::new(life(&claims), self.chance.f64()),
            holder: Holder {
                roots: seat.agent.knows().into_iter().collect(),
                leaf_root: self.root_of(&claims.issuer),
            },
            claims,
            offer: None,
        }
    }

    /// A leaf for the key that it has, in the registry before anybody sees it.
    fn sign(&mut self, seat: &Seat, held: &Claims, generation: u64) -> Result<Offer, SimError> {
        let agent = &seat.agent;
        let leaf = self
            .authority
            .renewed_leaf(&agent.name, &agent.container, &held.spki, self.leaf())?;
        let claims = Claims::read(&leaf)?;
        let rotated = IdentityRotated {
            container: agent.container.clone(),
            generation,
            thumbprint: claims.thumbprint,
            held: Some(held.thumbprint.clone()),
            not_after: claims.not_after,
        };
        match block_on(self.registry.rotate(rotated)) {
            // One that never registered has its leaf from the preamble.
            Ok(_) | Err(StoreError::UnknownAgent) => {}
            Err(error) => return Err(error.into()),
        }
        self.outcome.renewals += 1;
        Ok(Offer {
            leaf,
            roots: self.authority.roots(),
        })
    }

    /// One tick of an established session; `None` if it broke.
    fn keep(&mut self, seat: &mut Seat, mut session: Session) -> Result<Option<Session>, SimError> {
        let outdated = !self.roots().is_current(&session.holder);
        match session.renewal.next(self.clock.now_ms(), outdated) {
            Next::Wait { .. } => return Ok(Some(session)),
            Next::Expired => return Err(SimError::Untrusted("its leaf ended before a renewal".into())),
            Next::Sign => {
                let offer = self.sign(seat, &session.claims, seat.agent.generation)?;
                session
                    .renewal
                    .offered(life(&Claims::read(&offer.leaf)?), self.clock.now_ms());
                session.offer = Some(offer);
            }
            Next::SendAgain => session.renewal.sent_again(self.clock.now_ms()),
        }
        let Some(offer) = session.offer.take() else {
            return Ok(Some(session));
        };
        // It may break before PID 1 has it, or after and before the control plane hears of it.
        let broken = self.chance.u32(0..BREAKS) == 0;
        if !(broken && self.chance.bool()) {
            seat.agent
                .rotate(offer.leaf.clone(), offer.roots.clone(), &self.clock)?;
        }
        if broken {
            self.outcome.broken += 1;
            let back = self.soon(250);
            seat.lose(back);
            return Ok(None);
        }
        session.renewal.acknowledged();
        session.claims = Claims::read(&offer.leaf)?;
        session.holder = Holder {
            roots: offer.roots.iter().map(|root| thumbprint(root)).collect(),
            leaf_root: self.root_of(&session.claims.issuer),
        };
        self.confirm(seat)?;
        Ok(Some(session))
    }

    /// It shows the new leaf in a handshake of its own, and the one before is denied from then on.
    fn confirm(&mut self, seat: &Seat) -> Result<(), SimError> {
        let capture = seat.agent.calls(&self.own(&seat.agent)?, &self.clock)?;
        let (_, shown) = self.look(&seat.agent, &capture)?;
        shown.judged.map_err(|reason| SimError::Untrusted(reason.to_string()))?;
        block_on(self.registry.settle(&seat.agent.container, &shown.thumbprint))?;
        Ok(())
    }

    /// WhoAmI: the leaf is believed now, and its entry is this container's.
    fn call(&mut self, seat: &Seat) -> Result<(), SimError> {
        let shows = Capture {
            leaf: seat.agent.held.as_ref().map(|held| held.leaf.clone()),
            possession: true,
        };
        let (claims, shown) = self.look(&seat.agent, &shows)?;
        shown.judged.map_err(|reason| SimError::Untrusted(reason.to_string()))?;
        let entry = block_on(self.registry.lookup(&shown.thumbprint, &claims.cn))?;
        if entry.row.container != seat.agent.container {
            return Err(SimError::Untrusted("its entry is another container's".into()));
        }
        Ok(())
    }
}

fn life(claims: &Claims) -> Life {
    let millis = |seconds: i64| u64::try_from(seconds).unwrap_or(0) * 1000;
    Life {
        from_ms: millis(claims.not_before + BACKDATE_S),
        until_ms: millis(claims.not_after),
    }
}
