//! Effects by replay, with steps that keep to the rules and steps that don't.

mod guests;

use std::sync::Arc;

use clawker_model::{Effect, EffectNote, EffectResult, FullName};
use clawker_plugin_host::limits::MAX_EFFECTS;
use clawker_plugin_host::{Host, Plugin, StepCall, StepContext, StepTurn, Unavailable, note};
use guests::{Data, step};

const READ: &str =
    r#"(import "clawker:plugin/read-file@0.1.0" "read" (func $read (param i32 i32 i32 i32 i32 i32 i32)))"#;

fn turn(host: &Host, plugin: &Arc<Plugin>, history: Vec<(Effect, EffectResult)>) -> StepTurn {
    let agent = FullName::parse("clawker.a").expect("name");
    let context = StepContext {
        agent,
        start: 1,
        first_start: true,
        image: "image".into(),
    };
    host.step(&StepCall {
        plugin: plugin.clone(),
        settings: "{}".into(),
        secrets: vec![],
        context,
        history: history
            .into_iter()
            .map(|(effect, result)| (note(&effect), result))
            .collect::<Vec<(EffectNote, EffectResult)>>()
            .into(),
    })
}

fn read(path: &str) -> Effect {
    Effect::ReadFile {
        path: path.into(),
        max: 9,
        user: None,
    }
}

fn content(content: &[u8]) -> EffectResult {
    EffectResult::ReadFile {
        content: content.to_vec(),
    }
}

fn call(path: [u32; 2]) -> String {
    format!(
        "(call $read (i32.const {}) (i32.const {}) (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256))",
        path[0], path[1]
    )
}

/// Reads `/a`, then `/b`, then is done, saying what it read of `/b`.
fn two_reads() -> (Host, Arc<Plugin>) {
    let mut data = Data::default();
    let (a, b) = (data.bytes(b"/a"), data.bytes(b"/b"));
    // The read's result is at 256: a byte that says which, then pointer and length at 260. Ours is at 512.
    let run = format!(
        "{} {}
         (i32.store (i32.const 512) (i32.const 0))
         (i32.store (i32.const 516) (i32.load (i32.const 260)))
         (i32.store (i32.const 520) (i32.load (i32.const 264)))
         (i32.const 512)",
        call(a),
        call(b)
    );
    guests::load(&step(READ, &run, data)).expect("loads")
}

#[test]
fn effects_come_one_by_one_and_are_answered_from_the_record() {
    let (host, plugin) = two_reads();
    let mut history = vec![];
    assert_eq!(turn(&host, &plugin, history.clone()), StepTurn::Effect(read("/a")));
    history.push((read("/a"), content(b"one")));
    assert_eq!(turn(&host, &plugin, history.clone()), StepTurn::Effect(read("/b")));
    // As often as somebody asks.
    assert_eq!(turn(&host, &plugin, history.clone()), StepTurn::Effect(read("/b")));
    history.push((read("/b"), content(b"two")));
    assert_eq!(
        turn(&host, &plugin, history),
        StepTurn::Completed { message: "two".into() }
    );
}

#[test]
fn another_effect_than_the_recorded_one_is_named() {
    let (host, plugin) = two_reads();
    let history = vec![(read("/a"), content(b"")), (read("/c"), content(b""))];
    let StepTurn::NonDeterministic { n, recorded, asked } = turn(&host, &plugin, history) else {
        panic!("accepted")
    };
    assert_eq!(n, 1);
    assert_eq!(recorded, "read-file `/c`, at most 9 bytes");
    assert_eq!(asked, "read-file `/b`, at most 9 bytes");
}

#[test]
fn fewer_effects_than_recorded_are_named() {
    let (host, plugin) = two_reads();
    let history = ["/a", "/b", "/c"].map(|path| (read(path), content(b""))).to_vec();
    let StepTurn::NonDeterministic { n, asked, .. } = turn(&host, &plugin, history) else {
        panic!("accepted")
    };
    assert_eq!((n, asked.as_str()), (2, "nothing more"));
}

#[test]
fn a_result_of_another_kind_is_not_passed_on() {
    let (host, plugin) = two_reads();
    let history = vec![(read("/a"), EffectResult::WriteFile { written: true })];
    assert!(matches!(
        turn(&host, &plugin, history),
        StepTurn::NonDeterministic { n: 0, .. }
    ));
}

#[test]
fn a_failed_effect_is_an_answer() {
    let (host, plugin) = two_reads();
    let failed = EffectResult::Failed {
        code: "not-found".into(),
        message: "no".into(),
    };
    assert_eq!(
        turn(&host, &plugin, vec![(read("/a"), failed)]),
        StepTurn::Effect(read("/b"))
    );
}

#[test]
fn an_effect_out_of_bounds_never_leaves_the_host() {
    let mut data = Data::default();
    let relative = data.bytes(b"etc/passwd");
    let (host, plugin) = guests::load(&step(READ, &format!("{} (unreachable)", call(relative)), data)).expect("loads");
    let StepTurn::Unavailable(Unavailable::BadOutput(why)) = turn(&host, &plugin, vec![]) else {
        panic!("accepted")
    };
    assert_eq!(why, "effect 0: path `etc/passwd` is not absolute");
}

#[test]
fn effects_without_end_end() {
    let mut data = Data::default();
    let a = data.bytes(b"/a");
    let (host, plugin) =
        guests::load(&step(READ, &format!("(loop {} (br 0)) (unreachable)", call(a)), data)).expect("loads");
    let history = |n| vec![(read("/a"), content(b"")); n];
    assert_eq!(
        turn(&host, &plugin, history(MAX_EFFECTS - 1)),
        StepTurn::Effect(read("/a"))
    );
    for n in [MAX_EFFECTS, MAX_EFFECTS + 1] {
        let bad = Unavailable::BadOutput("more than 64 effects".into());
        assert_eq!(turn(&host, &plugin, history(n)), StepTurn::Unavailable(bad));
    }
}

#[test]
fn loops_traps_and_memory_are_unavailable() {
    let unavailable = |run: &str| {
        let (host, plugin) = guests::load(&step("", run, Data::default())).expect("loads");
        match turn(&host, &plugin, vec![]) {
            StepTurn::Unavailable(why) => why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(unavailable("(loop (br 0)) (unreachable)"), Unavailable::Fuel);
    assert!(matches!(unavailable("(unreachable)"), Unavailable::Trap(_)));
    let grow = "(loop (drop (memory.grow (i32.const 256))) (br 0)) (unreachable)";
    assert_eq!(unavailable(grow), Unavailable::Memory);
}

#[test]
fn a_step_that_gives_up_says_why() {
    let mut data = Data::default();
    let [at, len] = data.bytes(b"no");
    let failed = data.words(&[1, at, len]);
    let (host, plugin) = guests::load(&step("", &format!("(i32.const {failed})"), data)).expect("loads");
    assert_eq!(turn(&host, &plugin, vec![]), StepTurn::Failed { message: "no".into() });
}

#[test]
fn a_policy_is_no_step() {
    let bytes = guests::policy("", "(unreachable)", Data::default());
    let (host, plugin) = guests::load(&bytes).expect("loads");
    assert_eq!(
        turn(&host, &plugin, vec![]),
        StepTurn::Unavailable(Unavailable::Missing)
    );
}
