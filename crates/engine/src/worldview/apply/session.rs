//! An agent's session, and whether its peer is who it should be.

use clawker_model::event::{
    AgentRegistered, AgentTrusted, AgentUntrusted, IdentityLeaked, IdentityRevoked, IdentityRotated,
    RegistryRowEvicted, RegistryRowWritten, SessionBroken, SessionConnected, SessionConnecting, SessionFailed,
};

use super::super::agent::{Agent, Distrust, Registration, SessionState, Verdict};
use super::{About, Apply, Worldview};

impl Apply for SessionConnecting {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about) {
            agent.session.address.clone_from(&self.address);
            agent.session.attempts = 0;
            agent
                .session
                .set(SessionState::Connecting { failed: None }, about.at_ms);
        }
    }
}

impl Apply for SessionConnected {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && self.start >= agent.start
        {
            let session = &mut agent.session;
            session.address.clone_from(&self.address);
            session.attempts = self.attempts;
            session.peer_cn.clone_from(&self.peer_cn);
            session.thumbprint.clone_from(&self.thumbprint);
            session.set(SessionState::Connected, about.at_ms);
            agent.seen(about.at_ms);
        }
    }
}

impl Apply for SessionFailed {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about) {
            let since_ms = agent.session.since_ms;
            let dialling = matches!(agent.session.state, SessionState::Connecting { .. });
            agent.session.address.clone_from(&self.address);
            agent.session.attempts = self.attempts;
            let failed = Some(self.reason);
            agent.session.set(SessionState::Connecting { failed }, about.at_ms);
            if dialling {
                // The cycle was closed; the dialling goes on.
                agent.session.since_ms = since_ms;
            }
        }
    }
}

impl Apply for SessionBroken {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about) {
            let reason = self.reason.clone();
            agent.session.set(SessionState::Broken { reason }, about.at_ms);
        }
    }
}

impl Apply for AgentRegistered {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_at(&self.container, self.start)
        {
            agent.seen(about.at_ms);
            if !self.ok {
                agent.registered = None;
            }
        }
    }
}

impl Apply for RegistryRowWritten {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agents.get_mut(&self.row.name)
            && agent.is_of(&self.row.container)
        {
            agent.registered = Some(Registration {
                start: self.row.start,
                generation: self.row.generation,
                at_ms: about.at_ms,
            });
        }
    }
}

impl Apply for RegistryRowEvicted {
    fn apply(&self, _: About<'_>, world: &mut Worldview) {
        let of = |agent: &&mut Agent| agent.container.as_ref() == Some(&self.container);
        if let Some(agent) = world.agents.values_mut().find(of) {
            agent.registered = None;
        }
    }
}

impl Apply for IdentityRotated {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_of(&self.container)
        {
            agent.session.thumbprint = Some(self.thumbprint.clone());
            if let Some(registered) = &mut agent.registered {
                registered.generation = registered.generation.max(self.generation);
            }
        }
    }
}

impl Apply for IdentityRevoked {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_of(&self.container)
        {
            // Its session is closed at once, and by us: no SessionBroken follows.
            agent.session.set(SessionState::None, about.at_ms);
            agent.trust.set(Verdict::Unknown, about.at_ms);
            agent.registered = None;
        }
    }
}

impl Apply for IdentityLeaked {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_of(&self.container)
        {
            // Its key is denied for good; that it isn't trusted any more is an event of its own.
            agent.registered = None;
        }
    }
}

impl Apply for AgentUntrusted {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        let Some(agent) = world.agent(about) else { return };
        if self.intruder {
            agent.intruder = Some(Distrust {
                reason: self.reason,
                detail: self.detail.clone(),
                at_ms: about.at_ms,
            });
            return;
        }
        let verdict = Verdict::Untrusted {
            reason: self.reason,
            detail: self.detail.clone(),
        };
        agent.trust.set(verdict, about.at_ms);
    }
}

impl Apply for AgentTrusted {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_at(&self.container, self.start)
        {
            agent.trust.set(Verdict::Trusted, about.at_ms);
            agent.seen(about.at_ms);
        }
    }
}
