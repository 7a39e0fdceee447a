//! What is asked of an agent, and what was read back.

use clawker_model::Axis;
use clawker_model::event::{ActionApplied, ActionFailed, ContainmentAsked, Released};

use super::super::agent::Applied;
use super::{About, Apply, Worldview};

impl Apply for ContainmentAsked {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about) {
            agent.asked.clone_from(&self.asked);
        }
    }
}

impl Apply for Released {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about) {
            agent.asked.clone_from(&self.asked);
        }
    }
}

impl Apply for ActionApplied {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        done(about, world, self.axis, &self.action, Ok(self.read_back.clone()));
    }
}

impl Apply for ActionFailed {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        done(about, world, self.axis, &self.action, Err(self.error.clone()));
    }
}

fn done(about: About<'_>, world: &mut Worldview, axis: Axis, action: &str, outcome: Result<String, String>) {
    let Some(agent) = world.agent(about) else { return };
    let applied = Applied {
        action: action.to_owned(),
        outcome,
        at_ms: about.at_ms,
    };
    agent.applied.insert(axis, applied);
}
