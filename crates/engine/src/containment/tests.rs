use super::*;
use clawker_model::EgressRule;

mod properties;

fn cause(by: &str, action: Action) -> Cause {
    Cause {
        by: by.into(),
        action,
        reason: "because".into(),
        event: 7,
        at_ms: 1,
    }
}

fn only(ports: &[u16]) -> Action {
    let allow = ports
        .iter()
        .map(|port| EgressRule {
            addr: [192, 0, 2, 1].into(),
            port: *port,
        })
        .collect();
    Action::RestrictEgress { allow }
}

fn ask(by: &str, action: Action) -> Input {
    Input::Asked {
        cause: cause(by, action),
    }
}

fn applies(out: &[Output]) -> Vec<Force> {
    let force = |output: &Output| match output {
        Output::Apply { force, .. } => Some(force.clone()),
        _ => None,
    };
    out.iter().filter_map(force).collect()
}

/// Confirms everything that is to be applied until nothing is.
fn settle(state: &mut State, mut out: Vec<Output>) {
    for _ in 0..100 {
        let due = applies(&out);
        if due.is_empty() {
            return;
        }
        out = due
            .into_iter()
            .flat_map(|force| step(state, Input::Applied { force }, 0))
            .collect();
    }
    panic!("it never comes to rest");
}

fn attached() -> State {
    let mut state = State::default();
    let out = step(&mut state, Input::Attached, 0);
    settle(&mut state, out);
    state
}

#[test]
fn the_strongest_wins_on_each_axis() {
    use Action::*;
    let table: &[(&[Action], &str)] = &[
        (&[], "open"),
        (&[Observe, Alert], "open"),
        (&[only(&[1])], "restricted"),
        (&[only(&[1]), LockNetwork, only(&[2])], "locked"),
        (&[Freeze, Kill, Stop], "open, killed"),
        (&[Stop, Freeze], "open, stopped"),
        (&[LockNetwork, Freeze, Revoke], "locked, frozen, revoked"),
    ];
    for (actions, expected) in table {
        let causes: Vec<Cause> = actions.iter().map(|action| cause("x", action.clone())).collect();
        assert_eq!(asked(&causes).to_string(), *expected, "{actions:?}");
    }
}

#[test]
fn two_restrictions_allow_what_both_allow() {
    let of = |lists: &[&[u16]]| asked(&lists.iter().map(|ports| cause("x", only(ports))).collect::<Vec<_>>()).network;
    let expected = |ports: &[u16]| asked(&[cause("x", only(ports))]).network;
    assert_eq!(of(&[&[1, 2, 3], &[3, 2, 9]]), expected(&[2, 3]));
    assert_eq!(of(&[&[1], &[2]]), expected(&[]));
    assert_ne!(of(&[&[1], &[2]]), NetworkState::Open);
}

#[test]
fn an_operator_releases_all_but_the_hosts_rule_and_a_policy_only_its_own() {
    let mut state = State::default();
    let causes = vec![cause(HOST, only(&[1]))];
    step(&mut state, Input::Adopted { causes }, 0);
    step(&mut state, ask("policy:guard", Action::LockNetwork), 0);
    step(&mut state, ask("operator:uid:0", Action::Freeze), 0);
    let out = step(
        &mut state,
        Input::Released {
            by: "policy:guard".into(),
        },
        0,
    );
    assert!(matches!(&out[0], Output::Release { causes: 1, .. }), "{out:?}");
    assert_eq!(state.asked().to_string(), "restricted, frozen");
    step(
        &mut state,
        Input::Released {
            by: "policy:other".into(),
        },
        0,
    );
    step(&mut state, Input::Released { by: HOST.into() }, 0);
    assert_eq!(state.asked().to_string(), "restricted, frozen");
    step(
        &mut state,
        Input::Released {
            by: "operator:uid:1000".into(),
        },
        0,
    );
    assert_eq!(state.asked().to_string(), "restricted");
}

#[test]
fn without_a_container_it_is_kept_and_applied_at_the_next_attach() {
    let mut state = State::default();
    let out = step(&mut state, ask("operator", Action::LockNetwork), 0);
    assert!(applies(&out).is_empty(), "{out:?}");
    assert_eq!(state.in_force(), None);
    let out = step(&mut state, Input::Attached, 0);
    assert_eq!(applies(&out), [Force::Network(NetworkState::Locked)]);
    assert_eq!(state.in_force(), None, "nothing was read yet");
    settle(&mut state, out);
    assert_eq!(state.in_force().expect("read").to_string(), "locked");
    step(&mut state, Input::Detached, 0);
    assert_eq!((state.in_force(), state.asked().to_string()), (None, "locked".into()));
}

#[test]
fn a_revocation_needs_no_container() {
    let mut state = State::default();
    let out = step(&mut state, ask("operator", Action::Revoke), 0);
    assert_eq!(applies(&out), [Force::Identity(IdentityState::Revoked)]);
    settle(&mut state, out);
    // It was stored: after a restart of the control plane it isn't journaled again.
    let mut later = State::default();
    let out = step(
        &mut later,
        Input::Adopted {
            causes: state.causes().to_vec(),
        },
        0,
    );
    assert!(applies(&out).is_empty(), "{out:?}");
    assert_eq!(later.asked().identity, IdentityState::Revoked);
}

#[test]
fn a_new_start_is_looked_at_and_thawed_only_when_its_session_answers() {
    let mut state = State::default();
    let out = step(&mut state, Input::Attached, 0);
    assert_eq!(
        out,
        [Output::Apply {
            force: Force::Network(NetworkState::Open),
            verify: true
        }]
    );
    settle(&mut state, out);
    let out = step(&mut state, Input::Settled, 0);
    assert_eq!(
        out,
        [Output::Apply {
            force: Force::Processes(ProcessState::Running),
            verify: true
        }]
    );
}

#[test]
fn what_is_asked_while_an_effect_is_under_way_follows_it() {
    let mut state = attached();
    let lock = step(&mut state, ask("policy:a", Action::LockNetwork), 0);
    assert_eq!(applies(&lock), [Force::Network(NetworkState::Locked)]);
    let release = step(&mut state, Input::Released { by: "operator".into() }, 0);
    assert!(applies(&release).is_empty(), "one at a time: {release:?}");
    let force = Force::Network(NetworkState::Locked);
    let out = step(&mut state, Input::Applied { force }, 0);
    assert_eq!(applies(&out), [Force::Network(NetworkState::Open)]);
}

#[test]
fn a_lock_that_fails_freezes_and_a_freeze_that_fails_kills() {
    let mut state = attached();
    step(&mut state, ask("policy:a", Action::LockNetwork), 0);
    let failed = |force: Force| Input::Failed {
        force,
        error: "no".into(),
    };
    let out = step(&mut state, failed(Force::Network(NetworkState::Locked)), 10);
    assert!(
        out.iter().any(|o| matches!(
            o,
            Output::Fail {
                escalate: Some(Action::Freeze),
                ..
            }
        )),
        "{out:?}"
    );
    assert!(out.iter().any(|o| matches!(o, Output::Alert { .. })), "{out:?}");
    assert_eq!(applies(&out), [Force::Processes(ProcessState::Frozen)]);
    let out = step(&mut state, failed(Force::Processes(ProcessState::Frozen)), 20);
    assert!(
        out.iter().any(|o| matches!(
            o,
            Output::Fail {
                escalate: Some(Action::Kill),
                ..
            }
        )),
        "{out:?}"
    );
    assert_eq!(applies(&out), [Force::Processes(ProcessState::Killed)]);
    let out = step(&mut state, failed(Force::Processes(ProcessState::Killed)), 30);
    assert!(out.iter().any(|o| matches!(o, Output::Alert { .. })), "{out:?}");
    assert!(applies(&out).is_empty(), "not in a loop: {out:?}");
    assert!(applies(&step(&mut state, Input::Tick, 40)).is_empty());
    let out = step(&mut state, Input::Tick, 40 + RETRY_MS);
    assert_eq!(applies(&out).len(), 2, "both are tried again: {out:?}");
}

#[test]
fn an_escalation_goes_when_what_had_failed_is_in_force() {
    let mut state = attached();
    step(&mut state, ask("policy:a", Action::LockNetwork), 0);
    let force = Force::Network(NetworkState::Locked);
    let out = step(
        &mut state,
        Input::Failed {
            force,
            error: "no".into(),
        },
        0,
    );
    settle(&mut state, out);
    assert_eq!(state.asked().to_string(), "locked, frozen");
    let out = step(&mut state, Input::Tick, RETRY_MS);
    settle(&mut state, out);
    assert_eq!(state.in_force().expect("read").to_string(), "locked");
    assert_eq!(state.causes().len(), 1);
}

#[test]
fn a_failed_release_escalates_nothing() {
    let mut state = attached();
    let out = step(&mut state, ask("operator", Action::LockNetwork), 0);
    settle(&mut state, out);
    step(&mut state, Input::Released { by: "operator".into() }, 0);
    let force = Force::Network(NetworkState::Open);
    let out = step(
        &mut state,
        Input::Failed {
            force,
            error: "no".into(),
        },
        0,
    );
    assert!(
        out.iter().any(|o| matches!(o, Output::Fail { escalate: None, .. })),
        "{out:?}"
    );
    assert_eq!(state.asked(), Containment::default());
}

#[test]
fn a_disturbance_is_verified_even_while_in_force() {
    let mut state = attached();
    let disturbed = Input::Disturbed { axis: Axis::Network };
    let out = step(&mut state, disturbed.clone(), 0);
    assert_eq!(
        out,
        [Output::Apply {
            force: Force::Network(NetworkState::Open),
            verify: true
        }]
    );
    // Another one meanwhile is looked at after it.
    assert!(step(&mut state, disturbed, 0).is_empty());
    let out = step(
        &mut state,
        Input::Applied {
            force: Force::Network(NetworkState::Open),
        },
        0,
    );
    assert_eq!(applies(&out).len(), 1);
}
