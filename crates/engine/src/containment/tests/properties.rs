//! Whatever happens in whatever order.

use super::*;
use proptest::prelude::*;

fn actions() -> impl Strategy<Value = Action> {
    use Action::*;
    let ports = prop::collection::vec(1..4u16, 0..3).prop_map(|ports| only(&ports));
    prop_oneof![
        Just(Observe),
        Just(Alert),
        ports,
        Just(LockNetwork),
        Just(Freeze),
        Just(Stop),
        Just(Kill),
        Just(Revoke)
    ]
}

fn who() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("operator:uid:0"), Just("policy:a"), Just("policy:b"), Just(HOST)]
}

#[derive(Debug, Clone)]
enum Move {
    Give(Input),
    /// The nth effect under way ends, well or badly.
    End(usize, bool),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (who(), actions()).prop_map(|(by, action)| Move::Give(ask(by, action))),
        2 => who().prop_map(|by| Move::Give(Input::Released { by: by.into() })),
        1 => Just(Move::Give(Input::Attached)),
        1 => Just(Move::Give(Input::Settled)),
        1 => Just(Move::Give(Input::Detached)),
        1 => Just(Move::Give(Input::Disturbed { axis: Axis::Network })),
        1 => Just(Move::Give(Input::Tick)),
        5 => (0..3usize, any::<bool>()).prop_map(|(n, well)| Move::End(n, well)),
    ]
}

fn weaker(network: &NetworkState, than: &NetworkState) -> bool {
    match (network, than) {
        (_, NetworkState::Open) | (NetworkState::Locked, _) => false,
        (NetworkState::Open, _) | (NetworkState::Restricted { .. }, NetworkState::Locked) => true,
        (NetworkState::Restricted { allow }, NetworkState::Restricted { allow: than }) => {
            allow.iter().any(|rule| !than.contains(rule))
        }
    }
}

/// Plays `moves` as the control plane would; `each` sees every state after the input that led to it.
fn play(moves: Vec<Move>, mut each: impl FnMut(&State, &Input, &[Output])) -> State {
    let (mut state, mut under_way) = (State::default(), Vec::<Force>::new());
    for (now, next) in moves.into_iter().enumerate() {
        let input = match next {
            Move::Give(input) => input,
            Move::End(n, _) if n >= under_way.len() => continue,
            Move::End(n, true) => Input::Applied {
                force: under_way.remove(n),
            },
            Move::End(n, false) => Input::Failed {
                force: under_way.remove(n),
                error: "no".into(),
            },
        };
        // Results of a start that has ended are nobody's.
        if matches!(input, Input::Attached | Input::Detached) {
            under_way.retain(|force| force.axis() == Axis::Identity);
        }
        let out = step(&mut state, input.clone(), now as u64 * 1_000);
        under_way.extend(applies(&out));
        each(&state, &input, &out);
    }
    for _ in 0..200 {
        let Some(force) = under_way.pop() else { return state };
        under_way.extend(applies(&step(&mut state, Input::Applied { force }, u64::MAX / 2)));
    }
    panic!("it never comes to rest: {state:?}");
}

proptest! {
    #[test]
    fn never_weaker_than_the_strongest_live_cause(moves in prop::collection::vec(moves(), 0..40)) {
        let mut live: Vec<Cause> = Vec::new();
        play(moves, |state, input, _| {
            match input {
                Input::Asked { cause } => live.push(cause.clone()),
                Input::Released { by } if by.starts_with("operator") => live.retain(|cause| cause.by == HOST),
                Input::Released { by } => live.retain(|cause| cause.by == HOST || cause.by != *by),
                _ => {}
            }
            let asked = state.asked();
            for cause in &live {
                let alone = super::asked(std::slice::from_ref(cause));
                assert!(!weaker(&asked.network, &alone.network), "{cause:?} {asked:?}");
                assert!(asked.processes >= alone.processes && asked.identity >= alone.identity, "{cause:?} {asked:?}");
            }
        });
    }

    #[test]
    fn a_policy_never_lifts_what_another_asked(moves in prop::collection::vec(moves(), 0..40)) {
        let mut before = State::default();
        play(moves, |state, input, _| {
            if let Input::Released { by } = input && !by.starts_with("operator") {
                for cause in before.causes().iter().filter(|cause| cause.by != *by) {
                    assert!(state.causes().contains(cause), "{by} lifted {cause:?}");
                }
            }
            before = state.clone();
        });
    }

    #[test]
    fn the_same_ask_twice_changes_and_starts_nothing(moves in prop::collection::vec(moves(), 0..40), by in who(), action in actions()) {
        let mut state = play(moves, |_, _, _| {});
        step(&mut state, ask(by, action.clone()), 0);
        let before = state.clone();
        let out = step(&mut state, ask(by, action), 0);
        prop_assert_eq!(&state, &before);
        prop_assert!(out.iter().all(|o| matches!(o, Output::Alert { .. })), "{:?}", out);
    }

    #[test]
    fn a_failure_to_contain_always_escalates_or_was_superseded(moves in prop::collection::vec(moves(), 0..60)) {
        play(moves, |state, input, out| {
            let Input::Failed { force, .. } = input else { return };
            assert!(out.iter().any(|o| matches!(o, Output::Alert { .. })), "nobody is told: {out:?}");
            let asked = state.asked();
            match force {
                Force::Network(tried) if *tried == asked.network && *tried != NetworkState::Open => {
                    assert!(asked.processes >= ProcessState::Frozen, "{force:?} {asked:?}");
                }
                Force::Processes(tried) if *tried >= ProcessState::Frozen => {
                    assert!(asked.processes != *tried || *tried == ProcessState::Killed);
                }
                _ => {}
            }
        });
    }

    #[test]
    fn it_comes_to_rest_with_all_that_is_asked_in_force(moves in prop::collection::vec(moves(), 0..60)) {
        let mut state = play(moves, |_, _, _| {});
        let mut out = Vec::new();
        for i in 1..4 {
            out.extend(step(&mut state, Input::Tick, u64::MAX / 2 + i * RETRY_MS * 2));
            settle(&mut state, std::mem::take(&mut out));
        }
        if state.is_attached() {
            prop_assert!(state.is_in_force(Axis::Network), "{:?}", state);
            prop_assert_eq!(state.in_force().map(|c| c.processes), Some(state.asked().processes));
        }
        prop_assert!(state.is_in_force(Axis::Identity), "{:?}", state);
    }
}
