//! Three agents and a crash.

use anyhow::{Context, Result, ensure};
use clawker_tests::forged::Forged;
use clawker_tests::wait::{PATIENCE, until};
use clawker_tests::{Agent, Host, Listener};
use serde_json::Value;

use crate::report::Report;

/// Runs every check. An error means that the story couldn't go on.
pub fn tell(host: &mut Host, report: &mut Report) -> Result<()> {
    host.restart_control_plane()?;
    let status = host.cli(["status", "--json"])?.ok()?.objects()?;
    let engine = status
        .first()
        .and_then(|status| status["engine"].as_str())
        .unwrap_or_default()
        .to_owned();
    report.check("a control plane answers", "an engine, no agents", || {
        let agents = status.first().and_then(|status| status["agents"].as_u64());
        Ok((format!("{engine}, {} agents", agents.unwrap_or(99)), agents == Some(0)))
    });

    finisher(host, report);
    report.doing("listeners A and B");
    let (a, b) = (host.listener("a")?, host.listener("b")?);
    let container = wanderer(host, report, &a, &b)?;
    forged(host, report, &a)?;

    report.doing("SIGKILL to the control plane");
    host.kill_control_plane()?;
    report.check(
        "the lock outlives the control plane",
        "its next attempt at A fails",
        || {
            let reached = host.existing("wanderer").attempts(&container, &a)?;
            Ok((attempt("A", reached), !reached))
        },
    );
    report.check("so does the forged agent's", "its attempts at A fail", || {
        let reached = fresh_attempt(host, "forged")?;
        Ok((attempt("A", reached), !reached))
    });
    report.doing("another control plane on the same state");
    host.restart_control_plane()?;
    report.check("the new one picks the session up", "connected, trusted, locked", || {
        let wanderer = host.existing("wanderer");
        wanderer.expect("session", |view| {
            view["trust"] == "trusted" && (view["session"] == "connected" || view["session"] == "frozen")
        })?;
        let view = wanderer.view()?;
        Ok((words(&view), is_locked(&view)))
    });
    report.check("and the forged agent stays what it was", "untrusted, locked", || {
        let forged = host.existing("forged");
        forged.expect("trust", |view| view["trust"] == "chain_invalid")?;
        forged.expect_containment("locked")?;
        let view = forged.view()?;
        Ok((words(&view), is_locked(&view)))
    });
    report.check("the wanderer is still locked in", "its next attempt at A fails", || {
        let view = host.existing("wanderer").view()?;
        if view["containment"]
            .as_str()
            .is_some_and(|containment| containment.contains("frozen"))
        {
            return Ok(("frozen for trying again".into(), true));
        }
        let reached = host.existing("wanderer").attempts(&container, &a)?;
        Ok((attempt("A", reached), !reached))
    });
    report.check(
        "the forged agent was refused every step",
        "hello and lease alone, no bundle",
        || {
            let forged = Forged::existing(host, "forged")?;
            let kinds = forged.kinds_sent()?;
            let bundles = forged.bundles()?;
            let pass = bundles == 0 && !kinds.is_empty() && kinds.iter().all(|kind| kind == "hello" || kind == "lease");
            Ok((format!("{} in two lives, {bundles} bundles", kinds.join(" and ")), pass))
        },
    );
    Ok(())
}

/// The first agent: prepared, then its command, whose exit code is passed through.
fn finisher(host: &Host, report: &mut Report) {
    report.doing("agent `finisher`: reads its prepared file, exits with 7");
    let ran = host
        .agent("finisher")
        .script("cat /etc/clawker-welcome; exit 7")
        .run_to_end();
    let expected = format!("welcome, {}; this is start 1", host.existing("finisher").full());
    report.check("a step prepared the agent before its command", &expected, || {
        let ran = ran.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let first = ran.stdout.lines().next().unwrap_or_default().to_owned();
        ensure!(!first.is_empty(), "{}", ran.stderr);
        Ok((first.clone(), first == expected))
    });
    report.check("the command's exit code is passed through", "7", || {
        let code = ran.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?.code;
        Ok((code.to_string(), code == 7))
    });
}

/// The second: may reach A, tries B. Its container's id comes back.
fn wanderer(host: &Host, report: &mut Report, a: &Listener, b: &Listener) -> Result<String> {
    report.doing("agent `wanderer`: may reach A alone");
    let wanderer = host.agent("wanderer").attempting()?.egress(&[a]).run()?;
    let container = wanderer.container()?;
    report.check("it reaches A", "A answers", || {
        let reached = wanderer.attempts(&container, a)?;
        Ok((attempt("A", reached), reached))
    });
    let mut mark = host.mark();
    for time in ["once", "twice"] {
        let after = mark;
        let check = format!("it tries B {time} and is denied");
        report.check(&check, "B fails, the kernel counted it", || {
            let reached = wanderer.attempts(&container, b)?;
            let denied = host.expect_event_after(after, "EgressDenied", |row| row.agent == wanderer.full())?;
            mark = denied.seq;
            let total = denied.body["total"].as_u64().unwrap_or(0);
            Ok((
                format!("{}, {total} dropped in all", attempt("B", reached)),
                !reached && total > 0,
            ))
        });
    }
    locked_by(host, report, &wanderer, "egress-guard");
    report.check("now it fails on A too", "its next attempt at A fails", || {
        let reached = wanderer.attempts(&container, a)?;
        Ok((attempt("A", reached), !reached))
    });
    Ok(container)
}

/// The third: something else in clawkerd's place.
fn forged(host: &Host, report: &mut Report, a: &Listener) -> Result<()> {
    report.doing("agent `forged`: our labels, a leaf of another authority");
    let forged = Forged::start(host, "forged", a)?;
    let agent = &forged.agent;
    report.check(
        "the forged agent is not believed",
        "AgentUntrusted: chain_invalid",
        || {
            let row = host.expect_event("AgentUntrusted", |row| {
                row.agent == agent.full() && row.body["reason"] == "chain_invalid"
            })?;
            let reason = row.body["reason"].as_str().unwrap_or_default().to_owned();
            Ok((format!("AgentUntrusted: {reason}"), reason == "chain_invalid"))
        },
    );
    report.check("its own Register is refused", "PermissionDenied", || {
        let (got, why) = until("its attempt to register", PATIENCE, || {
            let answers = forged.answers()?;
            let register = answers.into_iter().find(|(asked, ..)| asked == "register");
            Ok(register.map(|(_, got, why)| (got, why)))
        })?;
        Ok((why.clone(), !got && why.contains("PermissionDenied")))
    });
    locked_by(host, report, agent, "quarantine-untrusted");
    report.check("then it reaches A no more", "its attempts at A fail", || {
        let reached = fresh_attempt(host, "forged")?;
        Ok((attempt("A", reached), !reached))
    });
    Ok(())
}

/// The policy of that name locks the agent's network, and the kernel says so.
fn locked_by(host: &Host, report: &mut Report, agent: &Agent<'_>, policy: &str) {
    let expected = format!("locked, by policy {policy}");
    report.check(&format!("{policy} locks its network"), &expected, || {
        host.expect_locked(&agent.name)?;
        let why = host.cli(["why", "--json", &agent.short()])?.ok()?.objects()?;
        let why = why.first().context("`clawker why` says something")?;
        let causes = why["causes"].as_array().into_iter().flatten();
        let by = causes.filter(|cause| {
            cause["action"]
                .as_str()
                .is_some_and(|action| action.contains("lock-network"))
        });
        let by: Vec<&str> = by.filter_map(|cause| cause["by"].as_str()).collect();
        let seen = format!("{}, by {}", why["in_force"].as_str().unwrap_or("?"), by.join(", "));
        Ok((seen, by == [format!("policy:{policy}")]))
    });
    report.check(
        "the lock was read back from the kernel",
        "ActionApplied with what was read",
        || {
            let applied = host.expect_event("ActionApplied", |row| {
                row.agent == agent.full()
                    && row.body["action"]
                        .as_str()
                        .is_some_and(|action| action.contains("lock"))
            })?;
            let read_back = applied.body["read_back"].as_str().unwrap_or_default().to_owned();
            let micros = applied.body["micros"].as_u64().unwrap_or(0);
            Ok((format!("{read_back} ({micros} µs)"), !read_back.is_empty()))
        },
    );
}

/// Whether an attempt of the forged agent gets through that began after now.
fn fresh_attempt(host: &Host, name: &str) -> Result<bool> {
    let forged = Forged::existing(host, name)?;
    let (before, _) = forged.reaches()?;
    until("another attempt of the forged agent", PATIENCE, || {
        let (count, reached) = forged.reaches()?;
        // The first one after `before` may have begun earlier.
        Ok((count >= before + 2).then_some(reached))
    })
}

fn attempt(target: &str, reached: bool) -> String {
    format!("{target} {}", if reached { "answers" } else { "fails" })
}

fn words(view: &Value) -> String {
    let word = |key: &str| view[key].as_str().unwrap_or("?").to_owned();
    format!("{}, {}, {}", word("session"), word("trust"), word("containment"))
}

fn is_locked(view: &Value) -> bool {
    view["containment"]
        .as_str()
        .is_some_and(|containment| containment.contains("locked"))
}
