//! What a policy can do to the host: nothing. Each of these is answered `Unavailable`, and the host goes on.

mod guests;

use std::collections::HashSet;
use std::time::Duration;

use clawker_plugin_host::limits::{MAX_LOG_LINES, MAX_STATE, MAX_VERDICTS};
use clawker_plugin_host::{Host, Limits, Unavailable};
use guests::{Data, ask, asked, policy};

const LOG: &str = r#"(import "clawker:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
const LOOP: &str = "(loop (br 0)) (unreachable)";

#[test]
fn an_honest_policy_is_answered() {
    let mut data = Data::default();
    let state = data.bytes(b"remembered");
    let decision = data.decision(1, "lock-network", state);
    let reply = asked(&policy("", &format!("(i32.const {decision})"), data)).expect("answers");
    assert_eq!(reply.state, "remembered");
    assert_eq!(
        (reply.verdicts[0].action.name(), reply.verdicts[0].reason.as_str()),
        ("lock-network", "because")
    );
    assert!(reply.fuel > 0 && reply.fuel < 10_000, "{}", reply.fuel);
}

#[test]
fn a_loop_runs_out_of_fuel() {
    assert_eq!(asked(&policy("", LOOP, Data::default())), Err(Unavailable::Fuel));
}

#[test]
fn a_loop_with_endless_fuel_meets_the_wall() {
    let bytes = policy("", LOOP, Data::default());
    let limits = Limits {
        fuel: u64::MAX,
        wall: Duration::from_millis(20),
        ..Limits::POLICY
    };
    let host = Host::with_limits(
        HashSet::from([clawker_plugin_host::digest(&bytes)]),
        limits,
        Limits::STEP,
    );
    let host = host.expect("an engine");
    let plugin = host.load(&bytes).expect("loads");
    assert_eq!(ask(&host, &plugin), Err(Unavailable::Wall));
}

#[test]
fn memory_without_end_is_refused() {
    let grow = "(loop (drop (memory.grow (i32.const 64))) (br 0)) (unreachable)";
    assert_eq!(asked(&policy("", grow, Data::default())), Err(Unavailable::Memory));
}

#[test]
fn memory_within_the_limit_is_given() {
    let mut data = Data::default();
    let decision = data.decision(0, "", [0, 0]);
    // 16 pages are there; 1024 make 64 MiB.
    let grow = |pages| format!("(drop (memory.grow (i32.const {pages}))) (i32.const {decision})");
    let mut second = Data::default();
    assert_eq!(second.decision(0, "", [0, 0]), decision);
    assert!(asked(&policy("", &grow(1024 - 16), data)).is_ok());
    assert_eq!(asked(&policy("", &grow(1024 - 15), second)), Err(Unavailable::Memory));
}

#[test]
fn a_trap_says_what_it_was_and_what_the_policy_said_last() {
    let Err(Unavailable::Trap(why)) = asked(&policy("", "(unreachable)", Data::default())) else {
        panic!("no trap")
    };
    assert!(why.contains("unreachable"), "{why}");

    let mut data = Data::default();
    let [at, len] = data.bytes(b"my settings\nare wrong");
    let say = format!("(call $log (i32.const 3) (i32.const {at}) (i32.const {len})) (unreachable)");
    let Err(Unavailable::Trap(why)) = asked(&policy(LOG, &say, data)) else {
        panic!("no trap")
    };
    assert!(why.ends_with(": my settings are wrong"), "{why}");
}

#[test]
fn endless_recursion_is_a_trap() {
    let zeros = |n| "(i32.const 0) ".repeat(n);
    let arguments = format!("{} (i64.const 0) (i64.const 0) {}", zeros(2), zeros(11));
    let answer = asked(&policy("", &format!("(call $evaluate {arguments})"), Data::default()));
    assert!(
        matches!(&answer, Err(Unavailable::Trap(why)) if why.contains("stack")),
        "{answer:?}"
    );
}

#[test]
fn answers_that_point_outside_of_memory_are_bad() {
    for state in [[u32::MAX - 3, 8], [0, u32::MAX], [16 << 16, 1]] {
        let mut data = Data::default();
        let decision = data.decision(0, "", state);
        let answer = asked(&policy("", &format!("(i32.const {decision})"), data));
        assert!(
            matches!(answer, Err(Unavailable::BadOutput(_) | Unavailable::Trap(_))),
            "{answer:?}"
        );
    }
}

#[test]
fn answers_over_the_caps_are_bad() {
    let answer = |verdicts: usize, action: &str, state: [u32; 2], pages: u32| {
        let mut data = Data::default();
        let decision = data.decision(verdicts, action, state);
        asked(&policy(
            "",
            &format!("(drop (memory.grow (i32.const {pages}))) (i32.const {decision})"),
            data,
        ))
    };
    let state = |len: usize| [64 << 10, len as u32];
    assert!(answer(MAX_VERDICTS, "observe", state(MAX_STATE), 0).is_ok());
    let bad = |answer| match answer {
        Err(Unavailable::BadOutput(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        bad(answer(MAX_VERDICTS + 1, "observe", [0, 0], 0)),
        "17 verdicts, the limit is 16"
    );
    assert_eq!(
        bad(answer(0, "", state(MAX_STATE + 1), 0)),
        "a state of 16385 bytes, the limit is 16384"
    );
    assert_eq!(bad(answer(1, "explode", [0, 0], 0)), "there is no action `explode`");
    // Not even copied out of the guest.
    bad(answer(0, "", state(16 << 20), 512));
    bad(answer(1 << 10, &"x".repeat(100 << 10), [0, 0], 0));
}

#[test]
fn text_that_is_not_utf8_is_bad() {
    let mut data = Data::default();
    let state = data.bytes(&[0xff, 0xfe]);
    let decision = data.decision(0, "", state);
    let answer = asked(&policy("", &format!("(i32.const {decision})"), data));
    assert!(matches!(answer, Err(Unavailable::BadOutput(_))), "{answer:?}");
}

#[test]
fn a_flood_of_log_lines_ends_with_the_limit() {
    let mut data = Data::default();
    let [at, len] = data.bytes(&[b'x'; 4096]);
    let decision = data.decision(0, "", [0, 0]);
    let many = MAX_LOG_LINES * 4;
    let flood = format!(
        "(local $n i32)
         (loop $again
            (call $log (i32.const 0) (i32.const {at}) (i32.const {len}))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const {many}))))
         (i32.const {decision})"
    );
    assert!(asked(&policy(LOG, &flood, data)).is_ok());
}

#[test]
fn a_log_line_of_no_known_level_is_bad() {
    let bad = "(call $log (i32.const 9) (i32.const 0) (i32.const 0)) (unreachable)";
    assert!(matches!(
        asked(&policy(LOG, bad, Data::default())),
        Err(Unavailable::BadOutput(_))
    ));
}

#[test]
fn each_call_begins_with_nothing() {
    // The second call would see what the first wrote behind its data, and trap.
    let mut data = Data::default();
    let decision = data.decision(0, "", [0, 0]);
    let once = format!(
        "(if (i32.load (i32.const 400000)) (then (unreachable)))
         (i32.store (i32.const 400000) (i32.const 1))
         (i32.const {decision})"
    );
    assert!(asked(&policy("", &once, data)).is_ok());
}

#[test]
fn more_callers_than_places_all_get_an_answer() {
    let mut data = Data::default();
    let decision = data.decision(1, "alert", [0, 0]);
    let (host, plugin) = guests::load(&policy("", &format!("(i32.const {decision})"), data)).expect("loads");
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(ask(&host, &plugin).expect("answers").verdicts.len(), 1);
                }
            });
        }
    });
}
