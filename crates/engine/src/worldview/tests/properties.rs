//! Whatever rows come, in whatever order.

use clawker_model::{Event, Row};
use proptest::prelude::*;

use super::samples;
use crate::worldview::Worldview;

#[test]
fn every_kind_of_event_has_a_body_here_and_changes_no_more_than_once() {
    for kind in Event::KINDS {
        for n in 0..3 {
            let row = samples::row(1, "clawker.a", kind, &samples::body(kind, 1, n));
            assert_eq!(row.event.kind(), *kind);
            let mut world = Worldview::default();
            world.apply(&row);
            assert_eq!(world.seq, 1);
        }
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let one = (prop::sample::select(Event::KINDS.to_vec()), 1..3u8, 0..4u64, 0..2usize);
    prop::collection::vec(one, 0..60).prop_map(|rows| {
        let numbered = rows.into_iter().zip(1..);
        numbered
            .map(|((kind, c, n, agent), seq)| {
                samples::row(
                    seq,
                    ["clawker.a", "clawker.p.b"][agent],
                    kind,
                    &samples::body(kind, c, n),
                )
            })
            .collect()
    })
}

fn world(rows: &[Row]) -> Worldview {
    let mut world = Worldview::default();
    rows.iter().for_each(|row| world.apply(row));
    world
}

proptest! {
    /// A snapshot and the rows after it are as good as all rows.
    #[test]
    fn a_snapshot_and_the_rest_are_the_whole(rows in rows(), at in 0..60usize) {
        let at = at.min(rows.len());
        let mut rest = world(&rows[..at]);
        rows[at..].iter().for_each(|row| rest.apply(row));
        prop_assert_eq!(rest, world(&rows));
    }

    /// A subscriber that reads some rows again, after a lag or a restart, sees what it saw.
    #[test]
    fn a_prefix_applied_twice_is_applied_once(rows in rows(), from in 0..60usize, to in 0..60usize) {
        let (from, to) = (from.min(rows.len()), to.min(rows.len()));
        let mut again = world(&rows[..to]);
        rows[from.min(to)..].iter().for_each(|row| again.apply(row));
        prop_assert_eq!(again, world(&rows));
    }

    /// Each row is a fact, and not a step from the one before: said twice it is no truer.
    #[test]
    fn a_row_said_twice_is_said_once(rows in rows()) {
        let (mut once, mut twice) = (Worldview::default(), Worldview::default());
        for row in &rows {
            once.note(row);
            twice.note(row);
            twice.note(row);
            prop_assert_eq!(&once, &twice, "{:?}", row);
        }
    }

    /// Starts are told apart by their numbers: rows of different starts may change places.
    #[test]
    fn rows_of_an_earlier_start_may_come_late(
        late in prop::sample::select(vec!["ContainerDied", "MainExited", "AgentTrusted", "InitCompleted", "InitFailed",
            "AgentReadySent", "ContainerStarted"]),
    ) {
        let row = |seq, kind: &str, n| samples::row(seq, "clawker.a", kind, &samples::body(kind, 1, n));
        // `after` counts the starts before: the life that is start 1 came after none.
        let n = if late == "ContainerStarted" { 0 } else { 1 };
        let created = [row(1, "AgentCreated", 0), row(2, "StartBegan", 1)];
        let mut in_order = world(&created);
        in_order.note(&row(3, late, n));
        in_order.note(&row(4, "StartBegan", 2));
        let mut late_one = world(&created);
        late_one.note(&row(4, "StartBegan", 2));
        late_one.note(&row(3, late, n));
        let state = |world: &Worldview| {
            let agent = world.agents.values().next().expect("an agent").clone();
            (agent.start, agent.life.state, agent.trust.value, agent.plan, agent.command.value, agent.exit)
        };
        prop_assert_eq!(state(&in_order), state(&late_one));
    }
}
