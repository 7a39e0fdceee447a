//! An agent's container: made, started, ended, gone.

use clawker_model::event::{
    AdoptionRefused, AgentAdopted, AgentCreateFailed, AgentCreated, AgentCreating, AgentRemoved, ContainerDestroyed,
    ContainerDied, ContainerHealth, ContainerPaused, ContainerStarted, ContainerUnpaused, StartBegan,
};

use super::super::agent::{Agent, ContainerState, Health, SessionState};
use super::{About, Apply, Worldview};
use crate::containment::asked;

impl Apply for AgentCreating {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        let Some(name) = about.agent else { return };
        let mut agent = Agent {
            run: Some(self.run.clone()),
            ..Agent::default()
        };
        agent.life.set(ContainerState::Creating, about.at_ms);
        // Nothing of an earlier agent of that name.
        world.agents.insert(name.clone(), agent);
    }
}

impl Apply for AgentCreated {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        let Some(name) = about.agent else { return };
        let agent = world.agents.entry(name.clone()).or_default();
        if agent.container.as_ref().is_some_and(|before| *before != self.container) {
            *agent = Agent::default();
        }
        agent.container = Some(self.container.clone());
        agent.run = Some(self.run.clone());
        if matches!(agent.life.state, ContainerState::Unknown | ContainerState::Creating) {
            agent.life.set(ContainerState::Created, about.at_ms);
        }
    }
}

impl Apply for AgentAdopted {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        let Some(name) = about.agent else { return };
        let mut agent = Agent {
            container: Some(self.container.clone()),
            run: Some(self.run.clone()),
            asked: asked(&self.causes),
            ..Agent::default()
        };
        if let Some(start) = &self.start {
            agent.start_over(start.number, about.at_ms);
            agent.begun(start.number, about.at_ms);
        }
        // What was said of the container while nobody knew whose it was is of no start.
        world.agents.insert(name.clone(), agent);
    }
}

impl Apply for AdoptionRefused {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        let Some(name) = about.agent else { return };
        // First heard of here, unless it is somebody who bears an agent's labels.
        let agent = world.agents.entry(name.clone()).or_default();
        agent.container.get_or_insert_with(|| self.container.clone());
    }
}

impl Apply for AgentCreateFailed {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(name) = about.agent {
            world.agents.remove(name);
        }
    }
}

impl Apply for AgentRemoved {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        let Some(name) = about.agent else { return };
        let other = |agent: &Agent| matches!((&agent.container, &self.container), (Some(a), Some(b)) if a != b);
        if !world.agents.get(name).is_some_and(other) {
            world.agents.remove(name);
        }
    }
}

impl Apply for StartBegan {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        let Some(name) = about.agent else { return };
        // A container that only bears our labels is first heard of here.
        let agent = world.agents.entry(name.clone()).or_default();
        agent.container.get_or_insert_with(|| self.container.clone());
        if agent.is_of(&self.container) && self.start.number > agent.start {
            agent.start_over(self.start.number, about.at_ms);
            agent.seen(about.at_ms);
            agent.begun(self.start.number, about.at_ms);
        }
    }
}

impl Apply for ContainerStarted {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_of(&self.container)
        {
            agent.begun(self.after.saturating_add(1), about.at_ms);
        }
    }
}

impl Apply for ContainerDied {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_of(&self.container)
        {
            agent.ended(self.start, self.exit_code, about.at_ms);
        }
    }
}

impl Apply for ContainerPaused {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_of(&self.container)
        {
            agent.life.paused = true;
        }
    }
}

impl Apply for ContainerUnpaused {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_of(&self.container)
        {
            agent.life.paused = false;
        }
    }
}

impl Apply for ContainerDestroyed {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_of(&self.container)
        {
            agent.life.set(ContainerState::Destroyed, about.at_ms);
            agent.session.set(SessionState::None, about.at_ms);
            agent.registered = None;
        }
    }
}

impl Apply for ContainerHealth {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_of(&self.container)
        {
            let health = match self.healthy {
                true => Health::Healthy,
                false => Health::Unhealthy {
                    detail: self.detail.clone(),
                },
            };
            agent.health.set(health, about.at_ms);
            agent.seen(about.at_ms);
        }
    }
}
