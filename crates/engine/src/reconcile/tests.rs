//! One thing at a time.

mod convergence;

use super::*;

pub fn id(n: u8) -> ContainerId {
    ContainerId::parse(&format!("{n:02x}").repeat(32)).expect("an id")
}

pub fn init(n: u64) -> Option<InitId> {
    Some(InitId {
        boot_id: "b".into(),
        start_time: n,
    })
}

pub fn held(n: u8, start: u64) -> Held {
    Held {
        name: FullName::parse(&format!("clawker.a{n}")).expect("a name"),
        start,
        init: (start > 0).then(|| init(start)).flatten(),
        running: None,
    }
}

fn there(run: Run) -> Listed {
    Listed {
        run,
        ours: true,
        netns_of: None,
    }
}

/// A history that has seen containers 1 and 2 run, both attested, and what is known of them.
fn settled() -> (History, Known) {
    let known: Known = [(id(1), held(1, 1)), (id(2), held(2, 1))].into();
    let mut history = History::new("engine");
    for n in [1, 2] {
        let look = Look::Up {
            init: init(1),
            paused: false,
            netns_of: None,
        };
        let container = id(n);
        assert_eq!(step(&mut history, &known, Input::Looked { container, look }), []);
    }
    (history, known)
}

fn list(history: &mut History, known: &Known, containers: &[(u8, Listed)]) -> Vec<Action> {
    list_of("engine", history, known, containers)
}

/// What the list of an engine leads to, besides that it was one.
fn list_of(engine: &str, history: &mut History, known: &Known, containers: &[(u8, Listed)]) -> Vec<Action> {
    let containers: BTreeMap<_, _> = containers.iter().map(|(n, listed)| (id(*n), listed.clone())).collect();
    let engine = History::must_identify(known, &containers).then(|| engine.to_owned());
    let mut actions = step(history, known, Input::Listed(Answer::Complete { engine, containers }));
    actions.retain(|action| *action != Action::Recover);
    actions
}

fn failed(history: &mut History, known: &Known) -> Vec<Action> {
    step(history, known, Input::Listed(Answer::Failed { why: "hung".into() }))
}

fn gone(n: u8) -> Vec<Action> {
    vec![Action::Evict {
        container: id(n),
        seen: Seen::Relist,
    }]
}

#[test]
fn absent_once_is_not_gone_and_twice_in_a_row_is() {
    let (mut history, known) = settled();
    let one = [(1, there(Run::Up))];
    assert_eq!(list(&mut history, &known, &one), []);
    assert!(history.is_unsure());
    assert_eq!(list(&mut history, &known, &one), gone(2));
    assert!(!history.is_unsure());
}

#[test]
fn absence_with_a_presence_between_is_not_in_a_row() {
    let (mut history, known) = settled();
    let both = [(1, there(Run::Up)), (2, there(Run::Up))];
    for containers in [&both[..1], &both[..], &both[..1]] {
        assert_eq!(list(&mut history, &known, containers), []);
    }
}

#[test]
fn a_failed_list_evicts_nothing_and_breaks_the_row() {
    let (mut history, known) = settled();
    let one = [(1, there(Run::Up))];
    assert_eq!(list(&mut history, &known, &one), []);
    let degraded = |first| Action::Degrade {
        why: "hung".into(),
        first,
    };
    assert_eq!(failed(&mut history, &known), [degraded(true)]);
    assert_eq!(failed(&mut history, &known), [degraded(false)]);
    assert_eq!(list(&mut history, &known, &one), []);
    assert_eq!(failed(&mut history, &known), [degraded(true)], "another outage");
}

#[test]
fn another_engine_evicts_nothing_however_often_it_answers() {
    let (mut history, known) = settled();
    for _ in 0..5 {
        let actions = list_of("other", &mut history, &known, &[]);
        assert!(
            matches!(&actions[..], [Action::Degrade { why, .. }] if why.contains("other") && why.contains("engine")),
            "{actions:?}"
        );
    }
    assert_eq!(list(&mut history, &known, &[]), []);
}

/// An answer that nobody vouches for, because nobody was asked, evicts nothing.
#[test]
fn an_answer_without_a_name_evicts_nothing() {
    let (mut history, known) = settled();
    for _ in 0..3 {
        let nameless = Input::Listed(Answer::Complete {
            engine: None,
            containers: BTreeMap::new(),
        });
        assert_eq!(step(&mut history, &known, nameless), [Action::Recover]);
    }
}

#[test]
fn stop_die_and_kill_do_not_evict() {
    let (mut history, known) = settled();
    let stopped = [(1, there(Run::Down)), (2, there(Run::Down))];
    for _ in 0..3 {
        let actions = list(&mut history, &known, &stopped);
        assert!(!actions.iter().any(|action| matches!(action, Action::Evict { .. })));
    }
    let look = Look::Down {
        exit_code: 137,
        ever_ran: true,
    };
    let container = id(1);
    let hint = Input::Hint {
        container: container.clone(),
        destroy: false,
    };
    assert_eq!(step(&mut history, &known, hint), [Action::Look(id(1))]);
    // Its own task says how an attested start ended.
    assert_eq!(step(&mut history, &known, Input::Looked { container, look }), []);
}

#[test]
fn a_destroy_is_believed_when_a_look_agrees() {
    let (mut history, known) = settled();
    let look = |history: &mut History, look| step(history, &known, Input::Looked { container: id(1), look });
    assert_eq!(look(&mut history, Look::Gone), [], "nobody hinted at its end");
    let hint = Input::Hint {
        container: id(1),
        destroy: true,
    };
    assert_eq!(step(&mut history, &known, hint), [Action::Look(id(1))]);
    let up = Look::Up {
        init: init(1),
        paused: false,
        netns_of: None,
    };
    assert_eq!(look(&mut history, up), [], "it is there all the same");
    let evict = Action::Evict {
        container: id(1),
        seen: Seen::Event,
    };
    assert_eq!(look(&mut history, Look::Gone), [evict]);
}

#[test]
fn a_start_is_said_once_whoever_notices_it_how_often() {
    let (mut history, mut known) = settled();
    let up = |n| Look::Up {
        init: init(n),
        paused: false,
        netns_of: None,
    };
    let mut look = |known: &Known, look| step(&mut history, known, Input::Looked { container: id(1), look });
    let down = Look::Down {
        exit_code: 0,
        ever_ran: true,
    };
    let started = |after| Action::Started {
        container: id(1),
        after,
    };
    assert_eq!(look(&known, down.clone()), []);
    assert_eq!(look(&known, up(2)), [started(1)], "not attested yet");
    assert_eq!(look(&known, up(2)), []);
    known.insert(id(1), held(1, 2));
    assert_eq!(look(&known, up(2)), [], "attested meanwhile");
    // A restart that only its attestation showed.
    known.insert(id(1), held(1, 3));
    let both = [(1, there(Run::Up)), (2, there(Run::Up))];
    assert_eq!(list(&mut history, &known, &both), [started(2)]);
    assert_eq!(list(&mut history, &known, &both), []);
}

#[test]
fn a_life_that_was_never_attested_has_an_end_too() {
    let known: Known = [(id(1), held(1, 0))].into();
    let mut history = History::new("engine");
    let mut look = |look| step(&mut history, &known, Input::Looked { container: id(1), look });
    let down = || Look::Down {
        exit_code: 9,
        ever_ran: true,
    };
    assert_eq!(look(down()), [], "nobody saw it run");
    let started = Action::Started {
        container: id(1),
        after: 0,
    };
    let up = Look::Up {
        init: init(7),
        paused: false,
        netns_of: None,
    };
    assert_eq!(look(up), [started]);
    let died = Action::Died {
        container: id(1),
        exit_code: 9,
    };
    assert_eq!(look(down()), [died]);
    assert_eq!(look(down()), []);
}

#[test]
fn a_pause_is_said_when_it_begins_and_when_it_ends() {
    let (mut history, known) = settled();
    let both = |run| [(1, there(run)), (2, there(Run::Up))];
    assert_eq!(list(&mut history, &known, &both(Run::Paused)), [Action::Paused(id(1))]);
    assert_eq!(list(&mut history, &known, &both(Run::Paused)), []);
    assert_eq!(list(&mut history, &known, &both(Run::Up)), [Action::Unpaused(id(1))]);
}

#[test]
fn a_task_that_is_wrong_about_its_container_is_told() {
    let (mut history, mut known) = settled();
    known.get_mut(&id(1)).expect("known").running = Some(false);
    known.get_mut(&id(2)).expect("known").running = Some(true);
    let both = [(1, there(Run::Up)), (2, there(Run::Up))];
    let nudge = Action::Nudge(held(1, 1).name);
    assert_eq!(list(&mut history, &known, &both), [nudge]);
}

#[test]
fn what_is_ours_and_unknown_is_offered_until_it_is_refused() {
    let (mut history, known) = settled();
    let three = [(1, there(Run::Up)), (2, there(Run::Up)), (3, there(Run::Down))];
    let adopt = [Action::Adopt(id(3))];
    assert_eq!(list(&mut history, &known, &three), adopt);
    assert_eq!(list(&mut history, &known, &three), adopt);
    history.refuse(&id(3));
    assert_eq!(list(&mut history, &known, &three), []);
    // What is refused is remembered no longer than it is there.
    assert_eq!(list(&mut history, &known, &three[..2]), []);
    assert!(history.refused.is_empty());
    let mut foreign = three;
    foreign[2].1.ours = false;
    assert_eq!(list(&mut history, &known, &foreign), []);
}

#[test]
fn a_foreign_container_in_an_agents_network_is_said_once_while_it_lasts() {
    let (mut history, known) = settled();
    let joined = |run, of| Listed {
        run,
        ours: false,
        netns_of: Some(id(of)),
    };
    let with = |listed: Listed| [(1, there(Run::Up)), (2, there(Run::Up)), (9, listed)];
    let shared = Action::Shared {
        agent: id(1),
        foreign: id(9),
    };
    assert_eq!(list(&mut history, &known, &with(joined(Run::Down, 1))), []);
    let said = list(&mut history, &known, &with(joined(Run::Up, 1)));
    assert_eq!(said.first(), Some(&shared));
    assert_eq!(list(&mut history, &known, &with(joined(Run::Up, 1))), []);
    assert_eq!(list(&mut history, &known, &with(joined(Run::Down, 1))), []);
    assert_eq!(list(&mut history, &known, &with(joined(Run::Paused, 1))), [shared]);
    assert_eq!(
        list(&mut history, &known, &with(joined(Run::Up, 77))),
        [],
        "nobody of ours"
    );
}

/// A start of anybody's is hinted at: the look tells at once, and the list nothing new.
#[test]
fn who_joins_an_agents_network_is_seen_by_a_look() {
    let (mut history, known) = settled();
    let look = Look::Up {
        init: None,
        paused: false,
        netns_of: Some(id(2)),
    };
    let looked = Input::Looked { container: id(9), look };
    let shared = Action::Shared {
        agent: id(2),
        foreign: id(9),
    };
    assert_eq!(step(&mut history, &known, looked.clone()), [shared]);
    assert_eq!(step(&mut history, &known, looked), []);
    let joined = Listed {
        run: Run::Up,
        ours: false,
        netns_of: Some(id(2)),
    };
    let all = [(1, there(Run::Up)), (2, there(Run::Up)), (9, joined)];
    assert_eq!(list(&mut history, &known, &all), []);
}

#[test]
fn lists_are_quick_after_a_gap_or_an_event_and_slow_in_peace() {
    let mut cadence = Cadence::new(0);
    assert_eq!(cadence.next(), 0);
    let mut times = Vec::new();
    for _ in 0..13 {
        let now = cadence.next();
        times.push(now / 1000);
        cadence.listed(now, false, false);
    }
    assert_eq!(times, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 25, 40]);
    let mut event = cadence;
    event.event(42_000);
    assert_eq!(event.next(), 43_000);
    event.listed(51_999, false, false);
    assert_eq!(event.next(), 52_999);
    event.listed(52_999, false, false);
    assert_eq!(event.next(), 67_999);
    let mut gap = cadence;
    gap.gap(42_000);
    assert_eq!(gap.next(), 42_000);
    let mut unsure = cadence;
    unsure.listed(60_000, true, false);
    assert_eq!(unsure.next(), 60_500);
    let mut away = cadence;
    away.listed(60_000, false, true);
    assert_eq!(away.next(), 61_000);
}
