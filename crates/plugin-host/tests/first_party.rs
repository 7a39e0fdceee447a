//! The plugins of this repository, as `cargo xtask plugins` built them.

mod guests;

use std::sync::Arc;

use clawker_model::event::{AgentUntrusted, ExecExited, UntrustedReason};
use clawker_model::plan::WriteWhen;
use clawker_model::{Action, Containment, Effect, EffectResult, FullName, NetworkState, Piece, Row, Verdict};
use clawker_plugin_host::{
    Facts, Host, Kind, Plugin, PolicyCall, PolicyHost, PolicyReply, StepCall, StepContext, StepTurn, Unavailable,
    WindowCount, check_settings, is_offered, note,
};

fn loaded(name: &str) -> (Host, Arc<Plugin>) {
    guests::load(&guests::first_party(name)).expect("loads")
}

fn evaluate(
    (host, plugin): &(Host, Arc<Plugin>),
    settings: &str,
    row: &Row,
    count: u64,
    locked: bool,
    state: String,
) -> Result<PolicyReply, Unavailable> {
    let windows = plugin.windows.iter().map(|window| WindowCount {
        kind: window.kind.clone(),
        seconds: window.seconds,
        count: if window.kind == row.event.kind() { count } else { 0 },
    });
    let network = if locked {
        NetworkState::Locked
    } else {
        NetworkState::Open
    };
    let containment = Containment {
        network,
        ..Containment::default()
    };
    let facts = Facts {
        counts: windows.collect(),
        containment,
    };
    host.evaluate(&PolicyCall {
        plugin: plugin.clone(),
        settings: settings.into(),
        row,
        facts,
        state,
    })
}

#[test]
fn the_guard_locks_on_the_second_denial_and_freezes_on_a_repeat() {
    let guard = loaded("egress-guard");
    assert_eq!(guard.1.kind, Kind::Policy);
    assert_eq!(guard.1.events, ["EgressDenied", "ContainerOom"]);
    assert_eq!(guard.1.imports, ["log", "settings"]);
    let mut state = String::new();
    let mut actions = Vec::new();
    for (count, locked) in [(1, false), (2, false), (3, true), (4, true)] {
        let reply = evaluate(&guard, "{}", &guests::denied(), count, locked, state).expect("answers");
        actions.push(
            reply
                .verdicts
                .iter()
                .map(|verdict| verdict.action.name())
                .collect::<Vec<_>>(),
        );
        state = reply.state;
    }
    assert_eq!(actions, [vec![], vec!["lock-network"], vec![], vec!["freeze"]]);
}

#[test]
fn the_guard_takes_its_threshold_from_the_settings() {
    let guard = loaded("egress-guard");
    let reply = evaluate(&guard, r#"{"threshold":1}"#, &guests::oom(), 1, false, String::new()).expect("answers");
    assert_eq!(reply.verdicts[0].action.name(), "lock-network");
    assert!(check_settings(&guard.1, r#"{"threshold":3}"#).is_ok());
    assert!(check_settings(&guard.1, r#"{"treshold":3}"#).is_err());
}

#[test]
fn settings_that_it_cannot_read_make_the_guard_unavailable_and_say_so() {
    let guard = loaded("egress-guard");
    let answer = evaluate(
        &guard,
        r#"{"threshold":"two"}"#,
        &guests::denied(),
        1,
        false,
        String::new(),
    );
    let Err(Unavailable::Trap(why)) = answer else {
        panic!("{answer:?}")
    };
    assert!(why.contains("settings: invalid type: string \"two\""), "{why}");
}

#[test]
fn the_same_question_has_the_same_answer_at_the_same_price() {
    let guard = loaded("egress-guard");
    let ask = || {
        evaluate(
            &guard,
            "{}",
            &guests::denied(),
            2,
            false,
            r#"{"phase":"watching","seen":1}"#.into(),
        )
    };
    let (first, second) = (ask().expect("answers"), ask().expect("answers"));
    assert_eq!(
        (&first.verdicts, &first.state, first.fuel),
        (&second.verdicts, &second.state, second.fuel)
    );
}

fn untrusted(reason: UntrustedReason) -> Row {
    guests::row(AgentUntrusted {
        reason,
        detail: "as shown".into(),
        intruder: false,
    })
}

/// What the quarantine asks for.
fn quarantined(quarantine: &(Host, Arc<Plugin>), settings: &str, reason: UntrustedReason) -> Vec<Verdict> {
    let reply = evaluate(quarantine, settings, &untrusted(reason), 0, false, String::new()).expect("answers");
    reply.verdicts
}

#[test]
fn the_quarantine_answers_every_reason_that_the_model_has() {
    let quarantine = loaded("quarantine-untrusted");
    assert_eq!(quarantine.1.kind, Kind::Policy);
    assert_eq!(quarantine.1.events, ["AgentUntrusted"]);
    for reason in UntrustedReason::ALL {
        let expected = match reason {
            UntrustedReason::RegisterFailed | UntrustedReason::RegistryUnavailable => Action::Alert,
            _ => Action::LockNetwork,
        };
        let verdicts = quarantined(&quarantine, "{}", reason);
        let expected = Verdict {
            action: expected,
            reason: format!("{reason}: as shown"),
        };
        assert_eq!(verdicts, [expected], "{reason}");
    }
}

#[test]
fn the_quarantine_has_a_setting_for_every_reason_that_the_model_has() {
    let quarantine = loaded("quarantine-untrusted");
    let actions = [
        Action::Observe,
        Action::Alert,
        Action::RestrictEgress { allow: vec![] },
        Action::LockNetwork,
        Action::Freeze,
        Action::Stop,
        Action::Kill,
        Action::Revoke,
    ];
    for reason in UntrustedReason::ALL {
        for action in &actions {
            let settings = format!(r#"{{"{reason}":"{}"}}"#, action.name());
            assert_eq!(check_settings(&quarantine.1, &settings), Ok(()));
            assert_eq!(
                quarantined(&quarantine, &settings, reason)[0].action,
                *action,
                "{reason}"
            );
        }
    }
    for bad in [
        r#"{"chain_invalid":"hope"}"#,
        r#"{"chain_invalit":"kill"}"#,
        r#"{"default":1}"#,
    ] {
        assert!(check_settings(&quarantine.1, bad).is_err(), "{bad}");
    }
}

const FIVE_FAILED: &str = "failed := object.get(input.state, \"failed\", 0) + 1 if input.body.code != 0
state := {\"failed\": failed}
verdicts contains {\"action\": \"freeze\"} if failed == 5";

fn failed_exec() -> Row {
    guests::row(ExecExited {
        exec: "e".into(),
        code: 1,
        signal: None,
        oom: false,
    })
}

fn one_rule(when: &str) -> String {
    let rule = serde_json::json!({"name": "r", "on": ["ExecExited"], "when": when, "action": "alert"});
    serde_json::json!({ "rules": [rule] }).to_string()
}

fn one_module(lines: &str) -> String {
    serde_json::json!({ "policy": format!("package clawker\n{lines}") }).to_string()
}

#[test]
fn policies_without_code_decide_by_their_settings_at_the_same_price_each_time() {
    let rule = serde_json::json!({"name": "fails", "on": ["ExecExited"], "when": "body.code != 0", "times": 5,
        "within": 60, "action": "freeze"});
    let rules = serde_json::json!({ "rules": [rule] }).to_string();
    for (name, settings) in [("cel-rules", &rules), ("rego-rules", &one_module(FIVE_FAILED))] {
        let policy = loaded(name);
        assert_eq!((policy.1.kind, policy.1.windows.len()), (Kind::Policy, 16));
        assert_eq!(policy.1.imports, ["log", "settings"], "{name}");
        assert_eq!(check_settings(&policy.1, settings), Ok(()));
        assert!(check_settings(&policy.1, "{}").is_err(), "{name} has nothing to go by");
        for kind in &policy.1.events {
            let offered = is_offered(kind) && clawker_model::Event::KINDS.contains(&kind.as_str());
            assert!(offered, "{kind}");
        }
        let mut state = String::new();
        let mut actions = Vec::new();
        for _ in 0..5 {
            let ask = || evaluate(&policy, settings, &failed_exec(), 1, false, state.clone()).expect("answers");
            let (first, second) = (ask(), ask());
            assert_eq!(
                (&first.verdicts, &first.state, first.fuel),
                (&second.verdicts, &second.state, second.fuel),
                "{name}"
            );
            actions.extend(first.verdicts.iter().map(|verdict| verdict.action.name()));
            state = first.state;
        }
        assert_eq!(actions, ["freeze"], "{name}");
    }
}

#[test]
fn rules_that_cannot_be_read_make_a_policy_without_code_unavailable_by_name() {
    let (cel, rego) = (loaded("cel-rules"), loaded("rego-rules"));
    for (policy, settings, says) in [
        (
            &cel,
            one_rule("body.code =="),
            "rule `r`: `when` is not CEL: line 1, column 13",
        ),
        (&cel, one_rule("body.argv == []"), "rule `r`: `when`: No such key: argv"),
        // What the library doesn't implement is a panic, and has the rule's name as well.
        (&cel, one_rule("body{} == 1"), "rule `r`: `when`: "),
        (
            &rego,
            one_module("verdicts contains"),
            "`policy`, line 2:18: expecting expression",
        ),
        (
            &rego,
            one_module("verdicts := 1 / 0"),
            "`verdicts`, line 2:15: divide by zero",
        ),
    ] {
        let answer = evaluate(policy, &settings, &failed_exec(), 1, false, String::new());
        let Err(Unavailable::Trap(why)) = answer else {
            panic!("{settings}: {answer:?}")
        };
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn bombs_in_rules_end_by_a_limit() {
    let ten = "[1,2,3,4,5,6,7,8,9,0]";
    let loops = (0..6).fold("1".to_owned(), |inner, n| format!("{ten}.map(x{n}, {inner})"));
    let (cel, rego) = (loaded("cel-rules"), loaded("rego-rules"));
    for (policy, settings) in [
        (&cel, one_rule(&format!("{loops} == []"))),
        (
            &cel,
            one_rule(&format!("{}1{} == 1", "(".repeat(1000), ")".repeat(1000))),
        ),
        (&cel, one_rule(&format!("{}1 == 1", "1 + ".repeat(1000)))),
        (
            &cel,
            one_rule(&format!("{}{} == []", "[".repeat(1000), "]".repeat(1000))),
        ),
        (
            &rego,
            one_module("verdicts := [1 | some a in numbers.range(1, 9999); some b in numbers.range(1, 9999); a < b]"),
        ),
        (&rego, one_module("verdicts := numbers.range(1, 100000000)")),
        (
            &rego,
            one_module(&format!("verdicts := {}1{}", "(".repeat(9000), ")".repeat(9000))),
        ),
    ] {
        let answer = evaluate(policy, &settings, &failed_exec(), 1, false, String::new());
        let ended = matches!(
            answer,
            Err(Unavailable::Fuel | Unavailable::Memory | Unavailable::Trap(_))
        );
        assert!(ended, "{settings:.200}: {answer:?}");
    }
}

fn welcome((host, plugin): &(Host, Arc<Plugin>), settings: &str, history: &[(Effect, EffectResult)]) -> StepTurn {
    let agent = FullName::parse("clawker.p.a").expect("name");
    let context = StepContext {
        agent,
        start: 3,
        first_start: false,
        image: "image".into(),
    };
    let history: Vec<_> = history
        .iter()
        .map(|(effect, result)| (note(effect), result.clone()))
        .collect();
    host.step(&StepCall {
        plugin: plugin.clone(),
        settings: settings.into(),
        secrets: vec![],
        context,
        history: history.into(),
    })
}

fn greeting(path: &str) -> Effect {
    Effect::WriteFile {
        path: path.into(),
        mode: 0o644,
        owner: Some("0:0".into()),
        when: WriteWhen::Always,
        content: vec![Piece::bytes("welcome, clawker.p.a; this is start 3\n")],
    }
}

#[test]
fn welcome_asks_for_what_it_uses() {
    let step = loaded("welcome");
    assert_eq!(step.1.kind, Kind::Step);
    assert_eq!(step.1.imports, ["exec", "log", "settings", "write-file"]);
}

#[test]
fn welcome_writes_its_file_and_needs_nothing_else() {
    let step = loaded("welcome");
    let greeting = greeting("/etc/clawker-welcome");
    assert_eq!(welcome(&step, "{}", &[]), StepTurn::Effect(greeting.clone()));
    let done = welcome(&step, "{}", &[(greeting, EffectResult::WriteFile { written: true })]);
    assert_eq!(
        done,
        StepTurn::Completed {
            message: "wrote /etc/clawker-welcome".into()
        }
    );
}

#[test]
fn welcome_runs_a_command_and_fails_with_it() {
    let step = loaded("welcome");
    let settings = r#"{"path":"/w","command":["busybox","touch","/x"]}"#;
    let wrote = (greeting("/w"), EffectResult::WriteFile { written: true });
    let StepTurn::Effect(exec) = welcome(&step, settings, std::slice::from_ref(&wrote)) else {
        panic!("no effect")
    };
    assert!(matches!(&exec, Effect::Exec { argv, .. } if argv == &["busybox", "touch", "/x"]));
    let ended = |code| EffectResult::Exec {
        code,
        stdout: vec![],
        stderr: b"no space\n".to_vec(),
    };
    let done = welcome(&step, settings, &[wrote.clone(), (exec.clone(), ended(0))]);
    assert_eq!(
        done,
        StepTurn::Completed {
            message: "wrote /w, ran busybox".into()
        }
    );
    let failed = welcome(&step, settings, &[wrote, (exec, ended(1))]);
    assert_eq!(
        failed,
        StepTurn::Failed {
            message: "busybox: exit code 1: no space (exit_nonzero)".into()
        }
    );
}

#[test]
fn welcome_with_settings_that_it_cannot_read_fails_by_name() {
    let step = loaded("welcome");
    let StepTurn::Failed { message } = welcome(&step, r#"{"path":1}"#, &[]) else {
        panic!("accepted")
    };
    assert!(message.starts_with("settings: invalid type"), "{message}");
}
