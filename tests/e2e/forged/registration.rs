//! An agent that was created like any other, whose PID 1 somebody has taken over: attested, with an identity of its
//! own, and lying. Lies about its registration are told to the operator; lies about who it is lock its network.

use anyhow::{Result, ensure};
use clawker_tests::forge::Shown;
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, throughout, until_true};
use clawker_tests::{Agent, Host};
use serde_json::{Value, json};
use std::time::Duration;

use super::{
    REFUSED, expect_alerted, expect_nothing_given, expect_quarantined, expect_untrusted, rows, said, until_said,
};

fn compromised() -> Result<Host> {
    Setup::test()?.compromised().start()
}

/// Starts an agent that plays `script`, and waits for nothing.
fn plays<'h>(host: &'h Host, name: &str, script: &Value) -> Result<Agent<'h>> {
    let (agent, _) = host.agent(name).plays(script).run_in_background()?;
    until_true("the agent's container", PATIENCE, || Ok(agent.container().is_ok()))?;
    Ok(agent)
}

/// What its next registration was answered with.
fn registered(host: &Host, agent: &Agent<'_>) -> Result<(bool, String)> {
    until_said(host, &agent.container()?, "its registration", |said| {
        let why = said["why"].as_str().unwrap_or_default().to_owned();
        (said["asked"] == "register").then(|| (said["ok"] == true, why))
    })
}

/// One row: it registers with `script`, is refused with the one text that everybody gets, and the operator is told.
fn refused(script: &Value, detail: &str) -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", script)?;
    let row = expect_untrusted(&host, &agent, "register_failed")?;
    ensure!(row.body["detail"].to_string().contains(detail), "{row:?}");
    let answer = registered(&host, &agent)?;
    ensure!(answer == (false, REFUSED.to_owned()), "{answer:?}");
    let registered = host.expect_event("AgentRegistered", |row| row.agent == agent.full())?;
    ensure!(registered.body["ok"] == false, "{registered:?}");
    expect_alerted(&host, &agent, "register_failed")?;
    expect_nothing_given(&host, &agent)?;
    ensure!(
        rows(&host, &agent, "ContainmentAsked").is_empty(),
        "an alert contains nobody"
    );
    ensure!(rows(&host, &agent, "BundleIssued").len() == 1, "one identity was due");
    Ok(())
}

/// One row: its token is one that is good no more, or never was. Nothing is published and the next one is sent.
fn sent_again(host: &Host, agent: &Agent<'_>) -> Result<()> {
    let (ok, why) = registered(host, agent)?;
    ensure!(!ok && why.starts_with("Unavailable"), "{why}");
    until_true("the next token", PATIENCE, || {
        let said = said(host, &agent.container()?)?;
        Ok(said.iter().filter(|said| said["sent"] == "register_required").count() >= 2)
    })?;
    expect_nothing_given(host, agent)?;
    for kind in ["AgentRegistered", "AgentUntrusted", "ContainmentAsked"] {
        ensure!(rows(host, agent, kind).is_empty(), "{kind} was published");
    }
    Ok(())
}

macro_rules! refusals {
    ($($(#[$doc:meta])* fn $name:ident() -> $detail:literal { $($script:tt)* })*) => {
        $($(#[$doc])* #[test] fn $name() -> Result<()> { refused(&json!({$($script)*}), $detail) })*
    };
}

refusals! {
    fn registers_for_another_project() -> "label_mismatch" { "claims": ["other", "f"] }

    fn registers_without_a_project() -> "label_mismatch" { "claims": ["", "f"] }

    fn registers_in_capitals() -> "register_failed" { "claims": ["p", "F"] }

    fn registers_with_path_characters() -> "register_failed" { "claims": ["p", "../f"] }

    fn registers_with_a_nul() -> "register_failed" { "claims": ["p", "f\u{0}"] }

    fn registers_without_a_name() -> "register_failed" { "claims": ["p", ""] }

    fn registers_with_a_name_of_25_characters() -> "register_failed" { "claims": ["p", "aaaaaaaaaaaaaaaaaaaaaaaaa"] }

    fn registers_without_a_token() -> "register_failed" { "token": "missing" }

    fn registers_with_a_token_of_another_scheme() -> "register_failed" { "token": "other-scheme" }

    fn registers_without_a_certificate() -> "cert_malformed" { "bare": true }
}

/// The project is right, the name is another agent's, who exists.
#[test]
fn registers_as_another_agent_of_its_project() -> Result<()> {
    let host = compromised()?;
    let honest = host.agent("a").plays(&json!({})).run()?;
    honest.expect_session()?;
    let agent = plays(&host, "f", &json!({"claims": [host.project(), "a"]}))?;
    let row = expect_untrusted(&host, &agent, "register_failed")?;
    ensure!(row.body["detail"].to_string().contains("label_mismatch"), "{row:?}");
    expect_alerted(&host, &agent, "register_failed")?;
    expect_nothing_given(&host, &agent)?;
    ensure!(
        rows(&host, &honest, "RegistryRowWritten").len() == 1,
        "another's row was touched"
    );
    honest.expect_session()
}

#[test]
fn registers_with_a_guessed_token() -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", &json!({"token": "guessed"}))?;
    sent_again(&host, &agent)
}

/// Nothing is a token that nobody minted.
#[test]
fn registers_with_an_empty_token() -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", &json!({"token": "empty"}))?;
    sent_again(&host, &agent)
}

#[test]
fn registers_with_the_token_of_its_session_before() -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", &json!({"token": "of-the-session-before"}))?;
    sent_again(&host, &agent)
}

#[test]
fn registers_with_the_token_of_another_agent() -> Result<()> {
    let host = compromised()?;
    plays(&host, "g", &json!({"token": {"left-in": "/shared/token"}}))?;
    let agent = plays(&host, "f", &json!({"token": {"from": "/shared/token"}}))?;
    sent_again(&host, &agent)?;
    ensure!(rows(&host, &host.existing("g"), "RegistryRowWritten").is_empty());
    Ok(())
}

/// The second time changes nothing: the answer is what a retry after a lost answer needs.
#[test]
fn registers_again_with_a_token_that_was_used() -> Result<()> {
    let host = compromised()?;
    let agent = host.agent("f").plays(&json!({"times": 3})).run()?;
    agent.expect_session()?;
    ensure!(
        rows(&host, &agent, "RegistryRowWritten").len() == 1,
        "one row for one start"
    );
    ensure!(
        rows(&host, &agent, "AgentRegistered").len() == 1,
        "one event for one start"
    );
    Ok(())
}

/// RegisterDone is the agent's word; the registry is what counts.
#[test]
fn says_that_it_registered_and_did_not() -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", &json!({"token": "guessed", "boasts": true}))?;
    let container = agent.container()?;
    until_said(&host, &container, "a first token", |said| {
        (said["sent"] == "register_required").then_some(())
    })?;
    let mark = said(&host, &container)?.len();
    throughout("a patient control plane", Duration::from_secs(3), || {
        let said = said(&host, &container)?;
        let asked = said
            .iter()
            .skip(mark)
            .filter(|said| said["sent"] == "register_required");
        Ok(asked.count() <= 4)
    })?;
    expect_nothing_given(&host, &agent)
}

/// Before there is a row nobody is anybody, with the best of leaves.
#[test]
fn asks_who_it_is_before_it_registered() -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", &json!({"early": true, "token": "guessed"}))?;
    let why = until_said(&host, &agent.container()?, "its question", |said| {
        (said["asked"] == "who-am-i").then(|| said["why"].clone())
    })?;
    ensure!(why == REFUSED, "{why}");
    expect_nothing_given(&host, &agent)
}

/// Every method is decided about, and what isn't there is not reached.
#[test]
fn calls_methods_that_are_not_its_own() -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", &json!({"early": true}))?;
    for asked in ["an unknown method", "the session's service", "the operators' service"] {
        let why = until_said(&host, &agent.container()?, asked, |said| {
            (said["asked"] == asked).then(|| said["why"].as_str().unwrap_or("it was answered").to_owned())
        })?;
        ensure!(
            why.starts_with("Unimplemented") || why.starts_with("PermissionDenied"),
            "{asked}: {why}"
        );
    }
    // The lie is in the past: it is who it is, and registers after all.
    agent.expect_session()
}

/// Leaves `from`'s identity where another finds it.
fn hand_over(host: &Host, from: &str, to: &str) -> Result<()> {
    let (from, to) = (host.shared_dir().join(from), host.shared_dir().join(to));
    until_true("an identity to steal", PATIENCE, || Ok(from.join("key.der").exists()))?;
    let stolen = Shown {
        chain: vec![std::fs::read(from.join("0.der"))?],
        key: std::fs::read(from.join("key.der"))?,
    };
    stolen.save(&to)
}

#[test]
fn shows_the_leaf_of_another_agent_that_lives() -> Result<()> {
    let host = compromised()?;
    let victim = host.agent("a").plays(&json!({"leaks": "/shared/leaf"})).run()?;
    victim.expect_session()?;
    let agent = plays(&host, "f", &json!({"shows": "/shared/leaf"}))?;
    expect_untrusted(&host, &agent, "cn_mismatch")?;
    expect_quarantined(&host, &agent)?;
    expect_nothing_given(&host, &agent)?;
    // Its key is in other hands: the rightful holder is locked too, and gets another.
    host.expect_event("IdentityLeaked", |row| row.agent == victim.full())?;
    expect_untrusted(&host, &victim, "thumbprint_mismatch")?;
    expect_quarantined(&host, &victim)?;
    victim.expect_session()
}

#[test]
fn asks_with_the_leaf_of_another_agent_that_lives() -> Result<()> {
    let host = compromised()?;
    let victim = host.agent("a").plays(&json!({"leaks": "/shared/leaf"})).run()?;
    victim.expect_session()?;
    let claims = json!([host.project(), "a"]);
    let agent = plays(
        &host,
        "f",
        &json!({"asks_as": "/shared/leaf", "claims": claims, "early": true}),
    )?;
    let row = expect_untrusted(&host, &agent, "register_failed")?;
    ensure!(row.body["detail"].to_string().contains("cn_mismatch"), "{row:?}");
    let why = until_said(&host, &agent.container()?, "its question", |said| {
        (said["asked"] == "who-am-i").then(|| said["why"].clone())
    })?;
    ensure!(why == REFUSED, "it was taken for somebody: {why}");
    expect_alerted(&host, &agent, "register_failed")?;
    expect_nothing_given(&host, &agent)?;
    victim.expect_session()
}

#[test]
fn shows_the_leaf_of_an_agent_that_was_removed() -> Result<()> {
    let host = compromised()?;
    let victim = host.agent("a").plays(&json!({"leaks": "/shared/leaf"})).run()?;
    host.cli(["rm", "--force", &victim.short()])?.ok()?;
    let agent = plays(&host, "f", &json!({"shows": "/shared/leaf"}))?;
    expect_untrusted(&host, &agent, "cn_mismatch")?;
    expect_quarantined(&host, &agent)?;
    expect_nothing_given(&host, &agent)
}

/// The name is the same, the container isn't.
#[test]
fn shows_the_leaf_of_the_one_who_had_its_name_before() -> Result<()> {
    let host = compromised()?;
    let victim = host.agent("a").plays(&json!({"leaks": "/shared/leaf"})).run()?;
    hand_over(&host, "leaf", "old")?;
    host.cli(["rm", "--force", &victim.short()])?.ok()?;
    let mark = host.mark();
    let agent = plays(&host, "a", &json!({"shows": "/shared/old"}))?;
    host.expect_event_after(mark, "AgentUntrusted", |row| row.body["reason"] == "san_mismatch")?;
    expect_quarantined(&host, &agent)?;
    let given = host.events().into_iter().filter(|row| row.seq > mark);
    let rows: Vec<_> = given
        .filter(|row| row.kind == "RegistryRowWritten" || row.kind == "AgentReadyIntended")
        .collect();
    ensure!(rows.is_empty(), "{rows:?}");
    Ok(())
}

/// What it was given in an earlier start is good no more, though it was its own.
#[test]
fn shows_its_own_leaf_of_an_earlier_start() -> Result<()> {
    let host = compromised()?;
    let script = json!({"leaks": "/shared/leaf", "shows": "/shared/old"});
    let agent = plays(&host, "f", &script)?;
    hand_over(&host, "leaf", "old")?;
    agent.expect_session()?;
    let mark = host.mark();
    host.docker.restart(&agent.container()?, 5)?;
    let row = host.expect_event_after(mark, "AgentUntrusted", |row| row.agent == agent.full())?;
    let reason = row.body["reason"].as_str().unwrap_or_default();
    ensure!(
        ["thumbprint_mismatch", "generation_replayed"].contains(&reason),
        "{row:?}"
    );
    expect_quarantined(&host, &agent)?;
    ensure!(
        rows(&host, &agent, "RegistryRowWritten").len() == 1,
        "the replay was registered"
    );
    let ready = rows(&host, &agent, "AgentReadyIntended");
    ensure!(ready.iter().all(|row| row.body["start"] == 1), "{ready:?}");
    Ok(())
}

/// AgentReady that nobody sent.
#[test]
fn says_that_its_command_runs_already() -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", &json!({"running": true}))?;
    expect_untrusted(&host, &agent, "init_bypassed")?;
    expect_quarantined(&host, &agent)?;
    for kind in ["InitStarted", "AgentReadyIntended"] {
        ensure!(rows(&host, &agent, kind).is_empty(), "{kind}");
    }
    Ok(())
}

/// A generation is the control plane's to count. One that can't be counted on from is no generation.
#[test]
fn holds_the_last_of_all_generations() -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", &json!({"holds": u64::MAX}))?;
    until_true("its attempts", PATIENCE, || {
        let said = said(&host, &agent.container()?)?;
        Ok(said.iter().filter(|said| !said["ended"].is_null()).count() >= 3)
    })?;
    ensure!(
        rows(&host, &agent, "BundleIssued").is_empty(),
        "it was given an identity"
    );
    expect_nothing_given(&host, &agent)?;
    // Nobody else notices.
    let honest = host.agent("a").plays(&json!({})).run()?;
    honest.expect_session()
}

/// More than was ever issued: it gets a newer one still, and an older one doesn't come back.
#[test]
fn holds_a_generation_that_nobody_issued() -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", &json!({"holds": 1000}))?;
    agent.expect_session()?;
    let issued = rows(&host, &agent, "BundleIssued");
    ensure!(issued.len() == 1 && issued[0].body["generation"] == 1001, "{issued:?}");
    let written = rows(&host, &agent, "RegistryRowWritten");
    ensure!(
        written.len() == 1 && written[0].body["row"]["generation"] == 1001,
        "{written:?}"
    );
    Ok(())
}

/// A start gets five identities; whoever asks for more gets none.
#[test]
fn asks_for_one_identity_after_the_other() -> Result<()> {
    let host = compromised()?;
    let agent = plays(&host, "f", &json!({"holds": 0, "leaves": true}))?;
    until_true("five identities", PATIENCE, || {
        Ok(rows(&host, &agent, "BundleIssued").len() == 5)
    })?;
    until_true("a refusal", PATIENCE, || {
        let said = said(&host, &agent.container()?)?;
        Ok(said
            .iter()
            .filter(|said| said["ended"].as_str().is_some_and(|why| why.contains("closed")))
            .count()
            >= 2)
    })?;
    ensure!(rows(&host, &agent, "BundleIssued").len() == 5, "it got a sixth");
    Ok(())
}
