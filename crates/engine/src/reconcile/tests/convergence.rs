//! Whatever the engine does, and whichever of its events are lost, doubled or late: two complete lists, and both agree.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Move {
    Create,
    /// Of the nth container.
    Start(usize),
    Die(usize),
    Destroy(usize),
    Pause(usize),
    /// The nth event that wasn't delivered yet comes, or comes once more, or never does.
    Deliver(usize),
    Double(usize),
    Lose(usize),
    /// The nth look that was asked for is answered, as things are then.
    Answer(usize),
    List,
    ListFails,
    OtherEngineLists,
    /// An agent proves who it is.
    Attest(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let n = || 0..6usize;
    let one = prop_oneof![
        2 => Just(Move::Create),
        4 => n().prop_map(Move::Start),
        3 => n().prop_map(Move::Die),
        3 => n().prop_map(Move::Destroy),
        1 => n().prop_map(Move::Pause),
        4 => n().prop_map(Move::Deliver),
        1 => n().prop_map(Move::Double),
        3 => n().prop_map(Move::Lose),
        4 => n().prop_map(Move::Answer),
        3 => Just(Move::List),
        1 => Just(Move::ListFails),
        1 => Just(Move::OtherEngineLists),
        2 => n().prop_map(Move::Attest),
    ];
    prop::collection::vec(one, 0..80)
}

#[derive(Debug, Clone, PartialEq)]
struct Truth {
    run: Run,
    life: u64,
}

/// The engine, what the control plane holds of it, and what is on the way between them.
#[derive(Default)]
struct Host {
    made: u8,
    lives: u64,
    engine: BTreeMap<ContainerId, Truth>,
    known: Known,
    history: History,
    events: Vec<(ContainerId, bool)>,
    looks: Vec<ContainerId>,
    /// Lives that were said to have started.
    started: Vec<(ContainerId, u64)>,
    evicted: Vec<ContainerId>,
}

fn nth<T: Clone>(of: &[T], n: usize) -> Option<T> {
    (!of.is_empty()).then(|| of[n % of.len()].clone())
}

impl Host {
    fn nth(&self, n: usize) -> Option<ContainerId> {
        nth(&self.engine.keys().cloned().collect::<Vec<_>>(), n)
    }

    fn take(&mut self, input: Input) {
        for action in step(&mut self.history, &self.known, input) {
            match action {
                Action::Look(id) => self.looks.push(id),
                Action::Adopt(id) => {
                    self.known.insert(id, held(0, 0));
                }
                Action::Started { container, .. } => {
                    let life = self.history.said[&container].init.as_ref().expect("a life");
                    self.started.push((container.clone(), life.start_time));
                }
                Action::Evict { container, .. } => {
                    assert!(!self.engine.contains_key(&container), "evicted, and it is there");
                    self.known.remove(&container);
                    self.evicted.push(container);
                }
                Action::Died { .. }
                | Action::Nudge(_)
                | Action::Paused(_)
                | Action::Unpaused(_)
                | Action::Shared { .. }
                | Action::Degrade { .. }
                | Action::Recover => {}
            }
        }
    }

    fn list(&mut self, name: &str, of: &BTreeMap<ContainerId, Truth>) {
        let listed = |truth: &Truth| Listed {
            run: truth.run,
            ours: true,
            netns_of: None,
        };
        let containers: BTreeMap<_, _> = of.iter().map(|(id, truth)| (id.clone(), listed(truth))).collect();
        let engine = History::must_identify(&self.known, &containers).then(|| name.to_owned());
        self.take(Input::Listed(Answer::Complete { engine, containers }));
    }

    fn answer(&mut self, id: ContainerId) {
        let look = match self.engine.get(&id) {
            None => Look::Gone,
            Some(Truth { run: Run::Down, life }) => Look::Down {
                exit_code: 1,
                ever_ran: *life > 0,
            },
            Some(truth) => Look::Up {
                init: init(truth.life),
                paused: truth.run == Run::Paused,
                netns_of: None,
            },
        };
        self.take(Input::Looked { container: id, look });
    }

    fn play(&mut self, next: Move) {
        match next {
            Move::Create if self.made < 200 => {
                self.made += 1;
                let (id, run) = (id(self.made), Run::Down);
                self.engine.insert(id.clone(), Truth { run, life: 0 });
                self.events.push((id, false));
            }
            Move::Create => {}
            Move::Start(n) => {
                if let Some(id) = self.nth(n)
                    && self.engine[&id].run == Run::Down
                {
                    self.lives += 1;
                    let (run, life) = (Run::Up, self.lives);
                    self.engine.insert(id.clone(), Truth { run, life });
                    self.events.push((id, false));
                }
            }
            Move::Die(n) | Move::Pause(n) => {
                if let Some(id) = self.nth(n) {
                    let truth = self.engine.get_mut(&id).expect("there");
                    truth.run = match (next, truth.run) {
                        (Move::Die(_), _) | (_, Run::Down) => Run::Down,
                        (_, Run::Up) => Run::Paused,
                        (_, Run::Paused) => Run::Up,
                    };
                    self.events.push((id, false));
                }
            }
            Move::Destroy(n) => {
                if let Some(id) = self.nth(n) {
                    self.engine.remove(&id);
                    self.events.push((id, true));
                }
            }
            Move::Deliver(n) | Move::Double(n) | Move::Lose(n) => {
                let Some((container, destroy)) = nth(&self.events, n) else {
                    return;
                };
                if !matches!(next, Move::Double(_)) {
                    self.events.remove(n % self.events.len());
                }
                if !matches!(next, Move::Lose(_)) {
                    self.take(Input::Hint { container, destroy });
                }
            }
            Move::Answer(n) => {
                if let Some(id) = nth(&self.looks, n) {
                    self.looks.remove(n % self.looks.len());
                    self.answer(id);
                }
            }
            Move::List => self.list("", &self.engine.clone()),
            Move::ListFails => self.take(Input::Listed(Answer::Failed { why: "hung".into() })),
            Move::OtherEngineLists => self.list("other", &BTreeMap::new()),
            Move::Attest(n) => {
                if let Some(id) = self.nth(n)
                    && let Truth { run: Run::Up, life } = self.engine[&id]
                    && let Some(held) = self.known.get_mut(&id)
                    && held.init != init(life)
                {
                    (held.start, held.init) = (held.start + 1, init(life));
                }
            }
        }
    }

    /// A list, and every look that follows from it.
    fn settle(&mut self) {
        self.list("", &self.engine.clone());
        while let Some(id) = self.looks.pop() {
            self.answer(id);
        }
    }
}

proptest! {
    #[test]
    fn two_complete_lists_and_both_agree(moves in moves()) {
        let mut host = Host::default();
        moves.into_iter().for_each(|next| host.play(next));
        host.settle();
        host.settle();
        let known: Vec<_> = host.known.keys().cloned().collect();
        let there: Vec<_> = host.engine.keys().cloned().collect();
        prop_assert_eq!(known, there, "who is known is who is there");
        for (id, truth) in &host.engine {
            let said = host.history.said.get(id).expect("something was said");
            prop_assert_eq!(said.up, truth.run != Run::Down);
            if said.up {
                prop_assert_eq!(said.paused, truth.run == Run::Paused);
            }
        }
        let once: BTreeSet<_> = host.evicted.iter().collect();
        prop_assert_eq!(once.len(), host.evicted.len(), "evicted twice");
        let said: BTreeSet<_> = host.started.iter().collect();
        prop_assert_eq!(said.len(), host.started.len(), "a start was said twice");
    }
}
