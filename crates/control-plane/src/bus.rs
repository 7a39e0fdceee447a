//! The journal's rows, as they are committed, for whoever follows them in this process.
//!
//! The store's broadcast is the source: only committed rows, in order. Each subscriber may be late by as many as the
//! broadcast holds; one that is later is told so, as an item of its own, and reads the rest from the journal: it
//! misses nothing and sees nothing twice. Whoever is slow delays neither the writer nor anybody else.
//!
//! ```text
//!            ┌── lagged: Notice::Lagged(n), then rows from the journal ──┐
//! live rows ─┤                                                           ├─▶ subscriber ─panic▶ counted, made anew,
//!            └── Notice::Row ────────────────────────────────────────────┘                      next row
//! ```

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use clawker_model::Row;
use clawker_store::{Error, Store};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::Board;

/// Rows that are read from the journal at a time.
const PAGE: u32 = 500;
/// From a journal that can't be read to the next try.
const AGAIN: Duration = Duration::from_millis(250);

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    Row(Arc<Row>),
    /// So many rows went by before they were taken. They follow.
    Lagged(u64),
}

/// A place in the journal that moves on with it.
pub struct Subscription {
    store: Store,
    live: Receiver<Arc<Row>>,
    /// The last row that was given.
    last: u64,
    /// Rows of the journal, to be given before any live one.
    past: VecDeque<Row>,
    behind: bool,
    not_before: Option<Instant>,
}

impl Subscription {
    /// Rows from now on.
    pub fn from_now(store: &Store) -> Self {
        let live = store.subscribe();
        let last = store.last_seq();
        Self::new(store, live, last, false)
    }

    /// Rows after `seq`.
    pub fn after(store: &Store, seq: u64) -> Self {
        let live = store.subscribe();
        Self::new(store, live, seq, true)
    }

    fn new(store: &Store, live: Receiver<Arc<Row>>, last: u64, behind: bool) -> Self {
        Self {
            store: store.clone(),
            live,
            last,
            past: VecDeque::new(),
            behind,
            not_before: None,
        }
    }

    /// The next notice, waiting for it; `None` once the store has closed. Cancelled, it has lost nothing. After an
    /// error it waits a moment and goes on where it was.
    pub async fn next(&mut self) -> Result<Option<Notice>, Error> {
        if let Some(when) = self.not_before {
            tokio::time::sleep_until(when).await;
            self.not_before = None;
        }
        loop {
            if let Some(row) = self.past.pop_front() {
                self.last = row.seq;
                return Ok(Some(Notice::Row(Arc::new(row))));
            }
            if self.behind {
                match self.store.rows(self.last, PAGE, None, None).await {
                    Ok(page) => {
                        self.behind = !page.is_empty();
                        self.past = page.into();
                    }
                    Err(Error::Closed) => return Ok(None),
                    Err(error) => {
                        self.not_before = Some(Instant::now() + AGAIN);
                        return Err(error);
                    }
                }
                continue;
            }
            match self.live.recv().await {
                Ok(row) if row.seq <= self.last => {}
                Ok(row) => {
                    self.last = row.seq;
                    return Ok(Some(Notice::Row(row)));
                }
                Err(RecvError::Lagged(missed)) => {
                    self.behind = true;
                    return Ok(Some(Notice::Lagged(missed)));
                }
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }
}

/// A subscriber that lives as long as the control plane.
pub struct Attend<F> {
    /// The subsystem that is degraded when it fails.
    pub name: &'static str,
    pub from: Subscription,
    pub board: Arc<Board>,
    pub shutdown: CancellationToken,
    /// Makes the subscriber, again after each panic.
    pub make: F,
}

impl<F, S> Attend<F>
where
    F: Fn() -> S + Send + 'static,
    S: FnMut(&Notice) + Send + 'static,
{
    pub fn spawn(self, tasks: &TaskTracker) {
        tasks.spawn(self.run());
    }

    async fn run(mut self) {
        let (mut subscriber, mut panics, mut well) = ((self.make)(), 0_u64, true);
        loop {
            let next = tokio::select! {
                () = self.shutdown.cancelled() => return,
                next = self.from.next() => next,
            };
            let notice = match next {
                Ok(Some(notice)) => notice,
                Ok(None) => return,
                Err(error) => {
                    well = false;
                    let detail = format!("reading the journal: {error}");
                    self.board.degraded(self.name, detail).await;
                    continue;
                }
            };
            match catch_unwind(AssertUnwindSafe(|| subscriber(&notice))) {
                Ok(()) if well => {}
                Ok(()) => {
                    // Its own words come by here too, and are taken as a sign of life by none.
                    if !is_about(&notice, self.name) {
                        well = true;
                        self.board.recovered(self.name).await;
                    }
                }
                Err(panic) => {
                    (panics, well) = (panics + 1, false);
                    subscriber = (self.make)();
                    let at = match &notice {
                        Notice::Row(row) => format!("event {}", row.seq),
                        Notice::Lagged(_) => "a lag".to_owned(),
                    };
                    let detail = format!("failure {panics} of this life, at {at}: {}", message(&*panic));
                    // One that fails at the row that tells of its failure would never end.
                    if is_about(&notice, self.name) {
                        tracing::error!(subsystem = self.name, detail, "a subscriber fails at its own failure");
                    } else {
                        self.board.degraded(self.name, detail).await;
                    }
                }
            }
        }
    }
}

/// Whether a row says how this subscriber is.
fn is_about(notice: &Notice, name: &str) -> bool {
    use clawker_model::Event;
    let Notice::Row(row) = notice else { return false };
    match &row.event {
        Event::SubsystemDegraded(event) => event.subsystem == name,
        Event::SubsystemRecovered(event) => event.subsystem == name,
        _ => false,
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use clawker_model::event::LeaseLost;

    use super::*;

    struct Journal {
        store: Store,
        _dir: tempfile::TempDir,
    }

    impl Journal {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("tempdir");
            let store = Store::open(dir.path(), "life").expect("store");
            Self { store, _dir: dir }
        }

        async fn write(&self, rows: u32) {
            for seconds in 0..rows {
                self.store
                    .append(
                        None,
                        LeaseLost {
                            seconds,
                            then: clawker_model::OnOrphan::Freeze,
                        },
                    )
                    .await
                    .expect("append");
            }
        }
    }

    /// Rows up to `last`, by number, and how many were said to be missed.
    async fn read(from: &mut Subscription, last: u64) -> (Vec<u64>, u64) {
        let (mut seqs, mut missed) = (Vec::new(), 0);
        while seqs.last() != Some(&last) {
            match from.next().await.expect("store").expect("open") {
                Notice::Row(row) => seqs.push(row.seq),
                Notice::Lagged(n) => missed += n,
            }
        }
        (seqs, missed)
    }

    #[tokio::test]
    async fn a_subscriber_that_lags_is_told_and_misses_nothing() {
        let journal = Journal::new();
        let (mut slow, mut quick) = (
            Subscription::from_now(&journal.store),
            Subscription::from_now(&journal.store),
        );
        journal.write(10).await;
        assert_eq!(read(&mut quick, 10).await, ((1..=10).collect(), 0));
        // More than the broadcast holds; the one who listens has them as they come.
        for round in 0..5 {
            journal.write(1000).await;
            let last = 10 + (round + 1) * 1000;
            assert_eq!(read(&mut quick, last).await, ((last - 999..=last).collect(), 0));
        }
        let (seqs, missed) = read(&mut slow, 5010).await;
        assert_eq!(seqs, (1..=5010).collect::<Vec<_>>());
        assert!(missed > 0);
        journal.write(3).await;
        assert_eq!(read(&mut slow, 5013).await, ((5011..=5013).collect(), 0));
    }

    #[tokio::test]
    async fn the_past_and_the_present_meet() {
        let journal = Journal::new();
        journal.write(1200).await;
        let mut after = Subscription::after(&journal.store, 700);
        journal.write(5).await;
        assert_eq!(read(&mut after, 1205).await, ((701..=1205).collect(), 0));
        journal.store.clone().close().await;
        assert_eq!(after.next().await.expect("closed is no error"), None);
    }

    #[tokio::test]
    async fn a_subscriber_that_panics_is_counted_and_made_anew() {
        let journal = Journal::new();
        let (board, tasks) = (Arc::new(Board::new(journal.store.clone())), TaskTracker::new());
        let (seen, made) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let shutdown = CancellationToken::new();
        let (sees, makes) = (seen.clone(), made.clone());
        let attend = Attend {
            name: "odd",
            from: Subscription::from_now(&journal.store),
            board: board.clone(),
            shutdown: shutdown.clone(),
            make: move || {
                *makes.lock().expect("count") += 1;
                let sees = sees.clone();
                move |notice: &Notice| {
                    let Notice::Row(row) = notice else { return };
                    assert!(row.seq % 5 != 2, "not this one");
                    sees.lock().expect("seen").push(row.seq);
                }
            },
        };
        let mut follows = Subscription::from_now(&journal.store);
        attend.spawn(&tasks);
        journal.write(1).await;
        journal.write(1).await;
        // Its failure is a row, with the count, and so is its recovery.
        let mut kinds = Vec::new();
        while kinds.len() < 3 {
            if let Some(Notice::Row(row)) = follows.next().await.expect("store") {
                kinds.push(row.event.kind());
            }
        }
        assert_eq!(kinds, ["LeaseLost", "LeaseLost", "SubsystemDegraded"]);
        let shown = board.snapshot();
        assert!(
            shown[0]
                .detail
                .contains("failure 1 of this life, at event 2: not this one"),
            "{shown:?}"
        );
        journal.write(1).await;
        while kinds.last() != Some(&"SubsystemRecovered") {
            if let Some(Notice::Row(row)) = follows.next().await.expect("store") {
                kinds.push(row.event.kind());
            }
        }
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        assert_eq!(*made.lock().expect("count"), 2);
        assert_eq!(seen.lock().expect("seen")[..3], [1, 3, 4]);
    }
}
