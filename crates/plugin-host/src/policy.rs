//! Asking a policy about an event.

use std::sync::Arc;
use std::time::Instant;

use clawker_model::event::{Facts, WindowCount};
use clawker_model::{Action, EgressRule, Row, Verdict};

use crate::bindings::policy::clawker::plugin::policy_types as wit;
use crate::engine::unavailable;
use crate::limits::{MAX_ALLOW, MAX_STATE, MAX_TEXT, MAX_VERDICTS, cut};
use crate::log::Line;
use crate::plugin::Code;
use crate::state::CallState;
use crate::{Host, Limits, Plugin, Unavailable};

/// Consequences of a policy's own verdicts, and what is written about them. Offered to no policy, whatever it asks:
/// it would be fed by itself.
const NOT_OFFERED: &[&str] = &[
    "PolicyDecided",
    "PolicyLoaded",
    "PolicyUnloaded",
    "ContainmentAsked",
    "ActionIntended",
    "ActionApplied",
    "ActionFailed",
    "Released",
    "IdentityRevoked",
    "PluginQuarantined",
    "ThresholdCrossed",
];

/// Whether a policy may be asked about events of this kind, if it wants to.
pub fn is_offered(kind: &str) -> bool {
    !NOT_OFFERED.contains(&kind)
}

/// Whoever evaluates policies: a [`Host`] in this process, a worker elsewhere. Blocks.
pub trait PolicyHost: Send + Sync {
    fn evaluate(&self, call: &PolicyCall<'_>) -> Result<PolicyReply, Unavailable>;
}

/// One question to one policy.
#[derive(Debug)]
pub struct PolicyCall<'a> {
    pub plugin: Arc<Plugin>,
    /// A JSON object.
    pub settings: String,
    pub row: &'a Row,
    pub facts: Facts,
    /// What the policy left for this agent after its last decision; empty at first.
    pub state: String,
}

/// What the policy answered, within bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyReply {
    pub verdicts: Vec<Verdict>,
    pub state: String,
    pub fuel: u64,
    pub micros: u64,
}

impl PolicyHost for Host {
    fn evaluate(&self, call: &PolicyCall<'_>) -> Result<PolicyReply, Unavailable> {
        let began = Instant::now();
        let (event, facts) = (event(call.row)?, facts(&call.facts)?);
        let plugin = &call.plugin;
        let (decided, lines) = self.decide(
            &plugin.code,
            &plugin.limits,
            call.settings.clone(),
            &event,
            &facts,
            &call.state,
        );
        crate::log::tell(&plugin.name, lines);
        let (decision, fuel) = decided?;
        let (verdicts, state) = answer(decision).map_err(Unavailable::BadOutput)?;
        Ok(PolicyReply {
            verdicts,
            state,
            fuel,
            micros: began.elapsed().as_micros() as u64,
        })
    }
}

impl Host {
    /// One call: the decision as the guest made it and the fuel that it took, and what it wrote to the log.
    pub(crate) fn decide(
        &self,
        code: &Code,
        limits: &Limits,
        settings: String,
        event: &wit::Event,
        facts: &wit::Facts,
        state: &str,
    ) -> (Result<(wit::Decision, u64), Unavailable>, Vec<Line>) {
        let Code::Policy(pre) = code else {
            return (Err(Unavailable::Missing), Vec::new());
        };
        let call = CallState::new(settings, limits);
        let (_pass, mut store) = match self.begin(call, limits) {
            Ok(begun) => begun,
            Err(unavailable) => return (Err(unavailable), Vec::new()),
        };
        let decision = pre
            .instantiate(&mut store)
            .and_then(|guest| guest.call_evaluate(&mut store, event, facts, state))
            .map_err(|error| unavailable(&error, store.data()));
        let left = store.get_fuel().unwrap_or_default();
        let fuel = limits.fuel.saturating_sub(left);
        (decision.map(|decision| (decision, fuel)), store.data_mut().log.take())
    }
}

pub(crate) fn event(row: &Row) -> Result<wit::Event, Unavailable> {
    let json = serde_json::to_value(&row.event)
        .map_err(|error| Unavailable::BadOutput(format!("the event as JSON: {error}")))?;
    Ok(wit::Event {
        kind: row.event.kind().to_owned(),
        seq: row.seq,
        at: row.at_ms,
        agent: row.agent.as_ref().map(ToString::to_string),
        body: json["body"].to_string(),
    })
}

pub(crate) fn facts(facts: &Facts) -> Result<wit::Facts, Unavailable> {
    let count = |w: &WindowCount| wit::WindowCount {
        kind: w.kind.clone(),
        seconds: w.seconds,
        count: w.count,
    };
    Ok(wit::Facts {
        counts: facts.counts.iter().map(count).collect(),
        containment: serde_json::to_string(&facts.containment)
            .map_err(|error| Unavailable::BadOutput(format!("the containment as JSON: {error}")))?,
    })
}

pub(crate) fn answer(decision: wit::Decision) -> Result<(Vec<Verdict>, String), String> {
    let wit::Decision { verdicts, state } = decision;
    if state.len() > MAX_STATE {
        return Err(format!("a state of {} bytes, the limit is {MAX_STATE}", state.len()));
    }
    if verdicts.len() > MAX_VERDICTS {
        return Err(format!("{} verdicts, the limit is {MAX_VERDICTS}", verdicts.len()));
    }
    Ok((verdicts.into_iter().map(verdict).collect::<Result<_, _>>()?, state))
}

fn verdict(raw: wit::Verdict) -> Result<Verdict, String> {
    let wit::Verdict { action, allow, reason } = raw;
    if !allow.is_empty() && action != "restrict-egress" {
        return Err(format!("the action `{action:.80}` takes no allow list"));
    }
    let action = match action.as_str() {
        "observe" => Action::Observe,
        "alert" => Action::Alert,
        "restrict-egress" => Action::RestrictEgress { allow: rules(&allow)? },
        "lock-network" => Action::LockNetwork,
        "freeze" => Action::Freeze,
        "stop" => Action::Stop,
        "kill" => Action::Kill,
        "revoke" => Action::Revoke,
        other => return Err(format!("there is no action `{other:.80}`")),
    };
    Ok(Verdict {
        action,
        reason: cut(reason, MAX_TEXT),
    })
}

fn rules(allow: &[String]) -> Result<Vec<EgressRule>, String> {
    if allow.len() > MAX_ALLOW {
        return Err(format!(
            "an allow list of {} entries, the limit is {MAX_ALLOW}",
            allow.len()
        ));
    }
    let rule = |entry: &String| {
        let parsed: Result<std::net::SocketAddr, _> = entry.parse();
        let at = parsed.map_err(|_| format!("`{entry:.80}` in an allow list is not `address:port`"))?;
        Ok(EgressRule {
            addr: at.ip(),
            port: at.port(),
        })
    };
    allow.iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(action: &str, allow: &[&str]) -> wit::Verdict {
        let allow = allow.iter().map(|&entry| entry.to_owned()).collect();
        wit::Verdict {
            action: action.into(),
            allow,
            reason: "because".into(),
        }
    }

    #[test]
    fn every_action_that_informs_or_contains_can_be_said() {
        for action in [
            "observe",
            "alert",
            "restrict-egress",
            "lock-network",
            "freeze",
            "stop",
            "kill",
            "revoke",
        ] {
            assert_eq!(verdict(raw(action, &[])).expect(action).action.name(), action);
        }
        let Action::RestrictEgress { allow } = verdict(raw("restrict-egress", &["192.0.2.1:443", "[::1]:1"]))
            .expect("well formed")
            .action
        else {
            panic!("another action")
        };
        assert_eq!(
            allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.1:443", "[::1]:1"]
        );
    }

    #[test]
    fn verdicts_out_of_bounds_are_refused() {
        let many = ["192.0.2.1:1"; MAX_ALLOW + 1];
        for (raw, says) in [
            (raw("explode", &[]), "there is no action `explode`"),
            (raw("freeze", &["192.0.2.1:1"]), "takes no allow list"),
            (raw("restrict-egress", &["example.com:1"]), "not `address:port`"),
            (raw("restrict-egress", &many), "allow list of 65 entries"),
        ] {
            let problem = verdict(raw).expect_err(says);
            assert!(problem.contains(says), "{problem}");
        }
    }

    #[test]
    fn decisions_have_caps() {
        let decision = |verdicts, state| wit::Decision {
            verdicts: vec![raw("observe", &[]); verdicts],
            state,
        };
        assert!(answer(decision(MAX_VERDICTS, "x".repeat(MAX_STATE))).is_ok());
        assert!(answer(decision(MAX_VERDICTS + 1, String::new())).is_err());
        assert!(answer(decision(0, "x".repeat(MAX_STATE + 1))).is_err());
        let long = wit::Verdict {
            reason: "x".repeat(MAX_TEXT + 1),
            ..raw("observe", &[])
        };
        assert_eq!(verdict(long).expect("cut").reason.len(), MAX_TEXT);
    }
}
