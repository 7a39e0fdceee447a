//! What a policy of rules is asked about and told, whatever its settings say: both are declared before there are any.
//! The policies `cel-rules` and `rego-rules` share this file.

use clawker_plugin_sdk::policy::{Containment, Facts, Network, Processes, Verdict, Window};

/// Kinds of events that say something of an agent's conduct or state.
pub const EVENTS: &[&str] = &[
    "AgentRegistered",
    "AgentTrusted",
    "AgentUntrusted",
    "ContainerDied",
    "ContainerHealth",
    "ContainerNetworkConnected",
    "ContainerOom",
    "ContainerPaused",
    "ContainerStarted",
    "ContainerUnpaused",
    "EgressDenied",
    "ExecExited",
    "ExecStarted",
    "IdentityLeaked",
    "IdentityRecovered",
    "InitCompleted",
    "InitFailed",
    "InitStepFailed",
    "LeaseLost",
    "MainExited",
    "NetnsShared",
    "ReapDegraded",
    "RestartPlanned",
    "SessionBroken",
    "SessionConnected",
    "SessionFailed",
    "SessionHalfStopped",
];

/// What the host counts; 16 are the most that it takes.
pub const WINDOWS: &[Window] = &[
    window("AgentUntrusted", 3600),
    window("ContainerDied", 600),
    window("ContainerDied", 3600),
    window("ContainerOom", 60),
    window("ContainerOom", 600),
    window("ContainerOom", 3600),
    window("EgressDenied", 60),
    window("EgressDenied", 600),
    window("EgressDenied", 3600),
    window("ExecExited", 60),
    window("ExecExited", 600),
    window("ExecStarted", 60),
    window("ExecStarted", 600),
    window("MainExited", 3600),
    window("SessionBroken", 600),
    window("SessionFailed", 3600),
];

const fn window(kind: &'static str, seconds: u32) -> Window {
    Window { kind, seconds }
}

/// What was counted in a window, if it is one of [`WINDOWS`].
#[allow(dead_code, clippy::allow_attributes, reason = "one of the two policies uses it")]
pub fn count(facts: &Facts, kind: &str, seconds: i64) -> Option<u64> {
    let asked =
        |window: &&clawker_plugin_sdk::policy::WindowCount| window.kind == kind && i64::from(window.seconds) == seconds;
    facts.counts.iter().find(asked).map(|window| window.count)
}

/// The two axes of a containment, by the names that the host has for their states.
pub fn axes(containment: &Containment) -> [(&'static str, &'static str); 2] {
    let network = match containment.network {
        Network::Open => "open",
        Network::Restricted => "restricted",
        Network::Locked => "locked",
        Network::Unknown => "unknown",
    };
    let processes = match containment.processes {
        Processes::Running => "running",
        Processes::Frozen => "frozen",
        Processes::Stopped => "stopped",
        Processes::Killed => "killed",
        Processes::Unknown => "unknown",
    };
    [("network", network), ("processes", processes)]
}

/// An action by its name. A list of destinations goes with `restrict-egress` and with nothing else.
pub fn verdict(action: &str, allow: &[String], reason: String) -> Result<Verdict, String> {
    if action != "restrict-egress" && !allow.is_empty() {
        return Err(format!("the action `{action:.80}` takes no `allow`"));
    }
    Ok(match action {
        "observe" => Verdict::observe(reason),
        "alert" => Verdict::alert(reason),
        "restrict-egress" => Verdict::restrict_egress(destinations(allow)?, reason),
        "lock-network" => Verdict::lock_network(reason),
        "freeze" => Verdict::freeze(reason),
        "stop" => Verdict::stop(reason),
        "kill" => Verdict::kill(reason),
        "revoke" => Verdict::revoke(reason),
        other => {
            return Err(format!(
                "there is no action `{other:.80}`; actions are observe, alert, restrict-egress, lock-network, freeze, \
                 stop, kill and revoke"
            ));
        }
    })
}

fn destinations(allow: &[String]) -> Result<Vec<std::net::SocketAddr>, String> {
    if allow.len() > 64 {
        return Err(format!("`allow` has {} entries, the limit is 64", allow.len()));
    }
    let one = |entry: &String| {
        let parsed = entry.parse();
        parsed.map_err(|_| format!("`{entry:.80}` in `allow` is not `address:port`"))
    };
    allow.iter().map(one).collect()
}

/// Puts a verdict among the others. The host takes 16 of one decision, so the same action isn't said twice.
pub fn say(verdicts: &mut Vec<Verdict>, verdict: Verdict) -> Result<(), String> {
    let same = |said: &Verdict| said.action == verdict.action && said.allow == verdict.allow;
    if verdicts.iter().any(same) {
        return Ok(());
    }
    if verdicts.len() == 16 {
        return Err("more than 16 different verdicts on one event".into());
    }
    verdicts.push(verdict);
    Ok(())
}
