//! Contain, release, why.

use clawker_model::{Action, Row};
use clawker_wire::admin::{ContainRequest, ContainResponse, WhyCause, WhyResponse};

use super::error::Fault;
use super::resolve::{Found, resolve};
use super::socket::Peer;
use super::{egress, limits};
use crate::containment::{Outcome, View};
use crate::core::Core;

const ACTIONS: &str = "observe, alert, restrict-egress, lock-network, freeze, stop, kill, revoke";

/// What the request asks to be done.
pub fn action(request: &ContainRequest) -> Result<Action, Fault> {
    limits::text("reason", &request.reason, limits::MAX_REASON)?;
    let action = match request.action.as_str() {
        "observe" => Action::Observe,
        "alert" => Action::Alert,
        "restrict-egress" => {
            return Ok(Action::RestrictEgress {
                allow: egress::rules(&request.allow)?,
            });
        }
        "lock-network" => Action::LockNetwork,
        "freeze" => Action::Freeze,
        "stop" => Action::Stop,
        "kill" => Action::Kill,
        "revoke" => Action::Revoke,
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(Fault::usage(
                format!("`{other}` is no action"),
                format!("it is one of {ACTIONS}"),
            ));
        }
    };
    match request.allow.is_empty() {
        true => Ok(action),
        false => Err(Fault::usage(
            format!("{} takes no addresses", action.name()),
            "only restrict-egress allows some: `clawker contain AGENT restrict-egress --allow ADDR:PORT`",
        )),
    }
}

pub async fn contain(
    core: &Core,
    found: &Found,
    action: Action,
    reason: &str,
    peer: Peer,
) -> Result<ContainResponse, Fault> {
    let reason = if reason.is_empty() {
        "asked by the operator"
    } else {
        reason
    };
    if matches!(action, Action::RestrictEgress { .. }) && core.config.engine.is_elsewhere() {
        return Err(Fault::state(
            "the engine is elsewhere, and there containment is reduced: egress can't be restricted",
            "`clawker contain AGENT lock-network` disconnects it",
        ));
    }
    let outcome = core
        .containment
        .contain(&found.name, action, &peer.operator(), reason)
        .await?;
    core.agents.hint(&found.name);
    Ok(response(&outcome))
}

pub async fn release(core: &Core, found: &Found, peer: Peer) -> Result<ContainResponse, Fault> {
    let outcome = core.containment.release(&found.name, &peer.operator()).await?;
    core.agents.hint(&found.name);
    Ok(response(&outcome))
}

fn response(outcome: &Outcome) -> ContainResponse {
    ContainResponse {
        in_force: in_force(Some(&outcome.view)),
        read_back: outcome.view.read_back.clone(),
        micros: outcome.micros,
    }
}

/// What is in force and read back; what is asked of an agent that doesn't run is said to be for its next start.
pub fn in_force(view: Option<&View>) -> String {
    match view {
        None => String::new(),
        Some(View {
            in_force: Some(in_force),
            reduced,
            ..
        }) => match reduced {
            true => format!("{in_force} (reduced)"),
            false => in_force.to_string(),
        },
        Some(view) if view.asked == Default::default() => String::new(),
        Some(view) => format!("{} at its next start", view.asked),
    }
}

/// Why an agent is contained as it is, the latest cause first.
pub async fn why(core: &Core, wanted: &str) -> Result<WhyResponse, Fault> {
    let found = resolve(core, wanted).await?;
    let view = core.containment.watch(&found.name).map(|view| view.borrow().clone());
    let causes = match &view {
        Some(view) => view.causes.clone(),
        None => core.store.causes(&found.name).await?,
    };
    let mut shown = Vec::with_capacity(causes.len());
    for cause in causes.iter().rev() {
        shown.push(WhyCause {
            by: cause.by.clone(),
            action: cause.action.to_string(),
            reason: cause.reason.clone(),
            event: event(core, cause.event).await?,
            at_ms: cause.at_ms,
        });
    }
    // The agent's own rule isn't released, it is part of what the agent is.
    let releasable = causes.iter().any(|cause| cause.by != "host");
    let hint = match releasable {
        true => format!("clawker release {}", found.name),
        false => String::new(),
    };
    Ok(WhyResponse {
        agent: found.name.to_string(),
        in_force: in_force(view.as_ref()),
        causes: shown,
        hint,
    })
}

/// The journal's row of this number, as one line of JSON.
async fn event(core: &Core, seq: u64) -> Result<String, Fault> {
    let Some(before) = seq.checked_sub(1) else {
        return Ok(String::new());
    };
    let rows: Vec<Row> = core.store.rows(before, 1, None, None).await?;
    let row = rows.first().filter(|row| row.seq == seq);
    Ok(row.and_then(|row| serde_json::to_string(row).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_read_by_their_names() {
        for name in ["observe", "alert", "lock-network", "freeze", "stop", "kill", "revoke"] {
            let request = ContainRequest {
                action: name.into(),
                ..Default::default()
            };
            assert_eq!(action(&request).expect(name).name(), name);
        }
        let request = ContainRequest {
            action: "restrict-egress".into(),
            allow: vec!["10.0.0.1:80".into()],
            ..Default::default()
        };
        assert_eq!(
            action(&request).expect("restrict").to_string(),
            "restrict-egress to 10.0.0.1:80"
        );
    }

    #[test]
    fn what_is_no_action_is_refused() {
        let refused = |request: ContainRequest| action(&request).expect_err("refused");
        let unknown = refused(ContainRequest {
            action: "detach".into(),
            ..Default::default()
        });
        assert!(
            unknown.message.contains("detach") && unknown.hint.contains("lock-network"),
            "{unknown}"
        );
        let allow = vec!["10.0.0.1:80".into()];
        refused(ContainRequest {
            action: "freeze".into(),
            allow: allow.clone(),
            ..Default::default()
        });
        refused(ContainRequest {
            action: "restrict-egress".into(),
            allow: vec!["x:1".into()],
            ..Default::default()
        });
        refused(ContainRequest {
            action: "freeze".into(),
            reason: "x".repeat(limits::MAX_REASON + 1),
            ..Default::default()
        });
    }
}
