//! One agent, put together from the worldview, its task, containment and its definition.

use clawker_engine::worldview::{Agent, Command, Health, Plan, PlanState, SessionState, Verdict};
use clawker_wire::admin::{AgentView, Ended, Intruder};

use crate::admin::contain::in_force;
use crate::admin::resolve::Found;
use crate::agent::{AgentHandle, AgentStatus, ContainerState};
use crate::core::Core;

/// Longest command that a list shows.
const MAX_COMMAND: usize = 200;

pub fn view(core: &Core, found: &Found) -> AgentView {
    let status = found.handle.as_ref().map(AgentHandle::status);
    let contained = core.containment.watch(&found.name).map(|view| view.borrow().clone());
    let spec = found.record.as_ref().map(|record| &record.spec);
    // What isn't in the journal is unknown.
    let agent = core.world.agent(&found.name).unwrap_or_default();
    let (trust, trust_detail) = trust(&agent.trust.value);
    let (session, session_detail) = session(&agent);
    let (health, health_detail) = health(spec.is_some_and(|spec| spec.health.is_some()), &agent.health.value);
    let heard = status.as_ref().map_or(0, |status| status.last_seen_ms);
    AgentView {
        name: found.name.to_string(),
        project: found.name.project().map(ToString::to_string).unwrap_or_default(),
        agent: found.name.agent().to_string(),
        container_id: found.container().map(|id| id.to_string()).unwrap_or_default(),
        image: spec.map(|spec| spec.image.clone()).unwrap_or_default(),
        status: state(status.as_ref(), agent.life.paused).to_owned(),
        session: session.to_owned(),
        session_since_ms: agent.session.since_ms,
        session_address: agent.session.address.clone(),
        session_attempts: agent.session.attempts,
        session_detail,
        trust,
        trust_detail,
        trust_since_ms: agent.trust.since_ms,
        registered: agent.registered.is_some(),
        generation: agent.registered.as_ref().map_or(0, |row| row.generation),
        intruder: agent.intruder.as_ref().map(|intruder| Intruder {
            reason: intruder.reason.to_string(),
            detail: intruder.detail.clone(),
            at_ms: intruder.at_ms,
        }),
        plan: plan(&agent.plan),
        plan_detail: plan_detail(&agent.plan),
        command_state: command(agent.command.value).to_owned(),
        containment: in_force(contained.as_ref()),
        containment_asked: contained.map_or_else(|| agent.asked.to_string(), |view| view.asked.to_string()),
        start: status.as_ref().map_or(agent.start, |status| status.start),
        last_seen_ms: heard.max(agent.last_seen_ms),
        exit_code: exit_code(status.as_ref(), &agent),
        ended: agent.exit.as_ref().map(|exit| Ended {
            start: exit.start,
            code: exit.code,
            signal: exit.signal.unwrap_or_default(),
            oom: exit.oom,
            at_ms: exit.at_ms,
        }),
        init_pid: status.as_ref().map_or(0, |status| status.init_pid.unsigned_abs()),
        health: health.to_owned(),
        health_detail,
        command: spec.map(|spec| shorten(&spec.main.argv.join(" "))).unwrap_or_default(),
        owner: spec.map(|spec| spec.owner.clone()).unwrap_or_default(),
        created_ms: found.record.as_ref().map_or(0, |record| record.created_ms),
    }
}

fn state(status: Option<&AgentStatus>, paused: bool) -> &'static str {
    match status.map(|status| status.state) {
        None | Some(ContainerState::Created) => "created",
        Some(ContainerState::Running) if paused => "paused",
        Some(ContainerState::Running) => "running",
        Some(ContainerState::Exited) => "exited",
    }
}

fn session(agent: &Agent) -> (&'static str, String) {
    if agent.session_frozen() {
        return ("frozen", "the container is held by its freezer".into());
    }
    match &agent.session.state {
        SessionState::None => ("none", String::new()),
        SessionState::Connecting { failed } => ("connecting", failed.map(|why| why.to_string()).unwrap_or_default()),
        SessionState::Connected => ("connected", String::new()),
        SessionState::Broken { reason } => ("broken", reason.clone()),
    }
}

fn trust(verdict: &Verdict) -> (String, String) {
    match verdict {
        Verdict::Unknown => ("unknown".into(), String::new()),
        Verdict::Trusted => ("trusted".into(), String::new()),
        Verdict::Untrusted { reason, detail } => (reason.to_string(), detail.clone()),
    }
}

/// `1/2 git`, `done`, `failed: git`; empty before it began.
fn plan(plan: &Plan) -> String {
    match plan.state {
        PlanState::Unknown => String::new(),
        PlanState::Running if plan.index == 0 => format!("0/{}", plan.count),
        PlanState::Running => format!("{}/{} {}", plan.index, plan.count, plan.step),
        PlanState::Done => "done".into(),
        PlanState::Failed => format!("failed: {}", plan.step),
    }
}

fn plan_detail(plan: &Plan) -> String {
    let failed = plan.failed_step.as_ref();
    failed
        .map(|failed| format!("{}: {}: {}", failed.name, failed.reason, failed.detail))
        .unwrap_or_default()
}

fn command(command: Command) -> &'static str {
    match command {
        Command::NotYet => "waiting",
        Command::Ready => "ready",
        Command::Running { .. } => "running",
        Command::Ended => "ended",
    }
}

fn health(has_check: bool, health: &Health) -> (&'static str, String) {
    match (has_check, health) {
        (false, _) => ("", String::new()),
        (true, Health::Unknown) => ("unknown", String::new()),
        (true, Health::Healthy) => ("healthy", String::new()),
        (true, Health::Unhealthy { detail }) => ("unhealthy", detail.clone()),
    }
}

/// Of the latest start that ended; none while it runs.
fn exit_code(status: Option<&AgentStatus>, agent: &Agent) -> Option<i32> {
    if status.is_some_and(|status| status.state == ContainerState::Running) {
        return None;
    }
    agent.exit.as_ref().map(|exit| exit.code)
}

fn shorten(command: &str) -> String {
    let plain = command.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = plain.take(MAX_COMMAND).collect();
    if command.chars().nth(MAX_COMMAND).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use clawker_model::event::{InitFailure, SessionFailure, UntrustedReason};

    use super::*;

    #[test]
    fn a_command_is_shown_on_one_short_line() {
        assert_eq!(shorten("a\nb\tc"), "a b c");
        let long = shorten(&"ä".repeat(MAX_COMMAND + 1));
        assert_eq!(long.chars().count(), MAX_COMMAND + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn health_is_said_only_of_what_has_a_check() {
        assert_eq!(health(false, &Health::Healthy).0, "");
        assert_eq!(health(true, &Health::Unknown).0, "unknown");
        let unhealthy = Health::Unhealthy {
            detail: "exit 1".into(),
        };
        assert_eq!(health(true, &unhealthy), ("unhealthy", "exit 1".into()));
    }

    #[test]
    fn words_say_what_the_worldview_holds() {
        let mut agent = Agent::default();
        assert_eq!(session(&agent).0, "none");
        agent.session.state = SessionState::Connecting {
            failed: Some(SessionFailure::FdCeiling),
        };
        assert_eq!(session(&agent), ("connecting", "fd_ceiling".into()));
        agent.session.state = SessionState::Broken { reason: "eof".into() };
        assert_eq!(session(&agent), ("broken", "eof".into()));
        agent.life.paused = true;
        assert_eq!(session(&agent).0, "frozen");
        let untrusted = Verdict::Untrusted {
            reason: UntrustedReason::CnMismatch,
            detail: "d".into(),
        };
        assert_eq!(trust(&untrusted), ("cn_mismatch".into(), "d".into()));
        let mut steps = Plan::default();
        assert_eq!(plan(&steps), "");
        (steps.state, steps.count) = (PlanState::Running, 3);
        assert_eq!(plan(&steps), "0/3");
        (steps.index, steps.step) = (2, "git".into());
        assert_eq!(plan(&steps), "2/3 git");
        steps.state = PlanState::Failed;
        steps.failed_step = Some(clawker_engine::worldview::FailedStep {
            name: "git".into(),
            reason: InitFailure::Timeout,
            detail: "60 s".into(),
        });
        assert_eq!(
            (plan(&steps), plan_detail(&steps)),
            ("failed: git".into(), "git: timeout: 60 s".into())
        );
    }
}
