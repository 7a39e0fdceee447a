//! An agent's preparation and its command.

use clawker_model::event::{
    AgentReadyFound, AgentReadyIntended, AgentReadySent, InitCompleted, InitFailed, InitStarted, InitStepCompleted,
    InitStepFailed, InitStepStarted, MainExited,
};

use super::super::agent::{Command, Exit, FailedStep, PlanState};
use super::{About, Apply, Worldview};

impl Apply for InitStarted {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_at(&self.container, self.start)
        {
            agent.plan.begin(self.steps, about.at_ms);
        }
    }
}

impl Apply for InitStepStarted {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about) {
            agent.plan.set(PlanState::Running, about.at_ms);
            agent.plan.index = self.index;
            agent.plan.count = self.count;
            agent.plan.step.clone_from(&self.name);
            agent.seen(about.at_ms);
        }
    }
}

impl Apply for InitStepCompleted {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about) {
            agent.plan.index = agent.plan.index.max(self.index);
            agent.seen(about.at_ms);
        }
    }
}

impl Apply for InitStepFailed {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about) {
            agent.plan.failed_step = Some(FailedStep {
                name: self.name.clone(),
                reason: self.reason,
                detail: self.detail.clone(),
            });
        }
    }
}

impl Apply for InitCompleted {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_at(&self.container, self.start)
        {
            agent.plan.set(PlanState::Done, about.at_ms);
            agent.seen(about.at_ms);
        }
    }
}

impl Apply for InitFailed {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_at(&self.container, self.start)
        {
            agent.plan.set(PlanState::Failed, about.at_ms);
            agent.plan.step.clone_from(&self.step);
            agent.plan.failed_step = Some(FailedStep {
                name: self.step.clone(),
                reason: self.reason,
                detail: self.detail.clone(),
            });
        }
    }
}

impl Apply for AgentReadyIntended {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_at(&self.container, self.start)
            && agent.command.value == Command::NotYet
        {
            agent.command.set(Command::Ready, about.at_ms);
        }
    }
}

impl Apply for AgentReadyFound {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_at(&self.container, self.start)
        {
            agent.plan.set(PlanState::Done, about.at_ms);
            agent.seen(about.at_ms);
            if agent.command.value == Command::NotYet {
                agent.command.set(Command::Ready, about.at_ms);
            }
        }
    }
}

impl Apply for AgentReadySent {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        if let Some(agent) = world.agent(about)
            && agent.is_at(&self.container, self.start)
            && agent.command.value != Command::Ended
        {
            agent.command.set(Command::Running { pid: self.pid }, about.at_ms);
            agent.seen(about.at_ms);
        }
    }
}

impl Apply for MainExited {
    fn apply(&self, about: About<'_>, world: &mut Worldview) {
        let Some(agent) = world.agent(about) else { return };
        if !agent.is_of(&self.container) || agent.exit.as_ref().is_some_and(|exit| exit.start > self.start) {
            return;
        }
        agent.exit = Some(Exit {
            start: self.start,
            code: self.code,
            signal: self.signal,
            oom: self.oom,
            at_ms: about.at_ms,
        });
        if self.start >= agent.start {
            agent.command.set(Command::Ended, about.at_ms);
        }
    }
}
