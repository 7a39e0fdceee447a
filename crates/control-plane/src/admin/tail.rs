//! The journal as a stream: what was, then what comes, each row once and in order.
//!
//! Subscribes before it reads the past, and drops what it has seen. A receiver that fell behind the bus reads on
//! from the store and comes back. Where rows are missing, because a cursor doesn't fit or old rows were dropped
//! meanwhile, the stream says so in the place of the gap.

use std::collections::VecDeque;
use std::sync::Arc;

use clawker_model::{FullName, Row};
use clawker_store::{Cursor, Error, Placed, Resync, ResyncReason, Store};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

const PAGE: u32 = 500;

pub struct Tail {
    store: Store,
    live: Receiver<Arc<Row>>,
    agent: Option<FullName>,
    since_ms: Option<u64>,
    last: u64,
    past: VecDeque<Placed>,
    reading_past: bool,
    gap: Option<Resync>,
}

/// What comes next in the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Row(Box<Placed>),
    /// What follows doesn't follow what was.
    Resync(Resync),
}

impl Tail {
    /// Rows after `after`, not older than `since_ms`, of one agent or of all.
    pub fn after(store: &Store, after: u64, since_ms: Option<u64>, agent: Option<FullName>) -> Self {
        Self {
            live: store.subscribe(),
            store: store.clone(),
            agent,
            since_ms,
            last: after,
            past: VecDeque::new(),
            reading_past: true,
            gap: None,
        }
    }

    /// Rows after a cursor; if the journal doesn't have it, that is said first, and then come all rows that there are.
    pub async fn resume(store: &Store, cursor: &Cursor, agent: Option<FullName>) -> Result<Self, Error> {
        let gap = store.resync(cursor).await?;
        let after = gap.as_ref().map_or(cursor.seq, |gap| gap.from.seq);
        let tail = Self::after(store, after, None, agent);
        Ok(Self { gap, ..tail })
    }

    /// Rows from now on.
    pub fn from_now(store: &Store, agent: FullName) -> Self {
        let tail = Self::after(store, 0, None, Some(agent));
        Self {
            last: store.last_seq(),
            // What is read from the store after this, it knows already.
            reading_past: false,
            ..tail
        }
    }

    /// The next row of the past; `None` once it has caught up with the present.
    pub async fn next_past(&mut self) -> Result<Option<Row>, Error> {
        loop {
            match self.placed_past().await? {
                Some(Next::Row(placed)) => return Ok(Some(placed.row)),
                Some(Next::Resync(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next row, waiting for it; `None` when the store has closed.
    pub async fn next(&mut self) -> Result<Option<Row>, Error> {
        loop {
            match self.placed().await? {
                Some(Next::Row(placed)) => return Ok(Some(placed.row)),
                Some(Next::Resync(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// As [`Tail::next_past`], with places and gaps.
    pub async fn placed_past(&mut self) -> Result<Option<Next>, Error> {
        loop {
            if let Some(gap) = self.gap.take() {
                return Ok(Some(Next::Resync(gap)));
            }
            if let Some(placed) = self.past.pop_front() {
                self.last = placed.row.seq;
                return Ok(Some(Next::Row(Box::new(placed))));
            }
            if !self.reading_past {
                return Ok(None);
            }
            let (agent, since) = (self.agent.as_ref(), self.since_ms);
            let page = self.store.placed_rows(self.last, PAGE, agent, since).await?;
            // Asked after the page was read: what was dropped until then may be missing in it.
            let dropped = self.store.dropped();
            if self.last < dropped {
                let began = self.last == 0;
                let from = self.store.oldest().await?;
                self.last = from.seq;
                let reason = ResyncReason::Dropped;
                self.gap = (!began).then_some(Resync { reason, from });
                continue;
            }
            self.reading_past = !page.is_empty();
            self.past = page.into();
        }
    }

    /// As [`Tail::next`], with places and gaps.
    pub async fn placed(&mut self) -> Result<Option<Next>, Error> {
        loop {
            if let Some(next) = self.placed_past().await? {
                return Ok(Some(next));
            }
            match self.live.recv().await {
                Ok(row) if row.seq <= self.last => {}
                Ok(row) => {
                    self.last = row.seq;
                    if !self.wants(&row) {
                        continue;
                    }
                    // Without a place it was dropped already: whoever is that late goes on from what there is.
                    if let Some(cursor) = self.store.cursor(row.seq).await? {
                        let row = row.as_ref().clone();
                        return Ok(Some(Next::Row(Box::new(Placed { row, cursor }))));
                    }
                    self.reading_past = true;
                }
                Err(RecvError::Lagged(_)) => self.reading_past = true,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    fn wants(&self, row: &Row) -> bool {
        self.agent
            .as_ref()
            .is_none_or(|agent| row.agent.as_ref() == Some(agent))
            && self.since_ms.is_none_or(|since| row.at_ms >= since)
    }
}

#[cfg(test)]
mod tests {
    use clawker_model::event::LeaseLost;

    use super::*;

    fn lost(seconds: u32) -> LeaseLost {
        LeaseLost {
            seconds,
            then: Default::default(),
        }
    }

    async fn seqs(tail: &mut Tail, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            seqs.push(tail.next().await.expect("store").expect("open").seq);
        }
        seqs
    }

    #[tokio::test]
    async fn past_and_present_meet_without_gap_or_repetition() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path(), "life").expect("store");
        let (a, b) = (
            FullName::parse("clawker.a").expect("a"),
            FullName::parse("clawker.b").expect("b"),
        );
        for n in 0..1200 {
            store
                .append(Some(if n % 2 == 0 { &a } else { &b }), lost(n))
                .await
                .expect("append");
        }
        let mut all = Tail::after(&store, 0, None, None);
        let mut only = Tail::after(&store, 10, None, Some(b.clone()));
        let mut now = Tail::from_now(&store, a.clone());
        assert_eq!(seqs(&mut all, 700).await, (1..=700).collect::<Vec<_>>());
        // More than the bus holds, while nobody listens.
        for n in 0..5000 {
            store.append(Some(&a), lost(n)).await.expect("append");
        }
        assert_eq!(seqs(&mut all, 5500).await, (701..=6200).collect::<Vec<_>>());
        let of_b: Vec<u64> = (11..=1200).filter(|seq| seq % 2 == 0).collect();
        assert_eq!(seqs(&mut only, of_b.len()).await, of_b);
        assert_eq!(seqs(&mut now, 5000).await, (1201..=6200).collect::<Vec<_>>());
        assert_eq!(only.next_past().await.expect("store"), None);
        store.append(Some(&b), lost(0)).await.expect("append");
        assert_eq!(seqs(&mut only, 1).await, [6201]);
    }

    async fn places(tail: &mut Tail) -> Vec<Result<u64, ResyncReason>> {
        let mut seen = Vec::new();
        while let Some(next) = tail.placed_past().await.expect("store") {
            seen.push(match next {
                Next::Row(placed) => {
                    assert_eq!(placed.row.seq, placed.cursor.seq);
                    Ok(placed.row.seq)
                }
                Next::Resync(resync) => Err(resync.reason),
            });
        }
        seen
    }

    #[tokio::test]
    async fn a_cursor_goes_on_where_it_was_or_says_what_happened_first() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path(), "life").expect("store");
        for n in 0..6 {
            store.append(None, lost(n)).await.expect("append");
        }
        let mut tail = Tail::after(&store, 0, None, None);
        let mut cursors = Vec::new();
        while let Some(Next::Row(placed)) = tail.placed_past().await.expect("store") {
            cursors.push(placed.cursor);
        }
        // A row that is only just there has the place that the file says.
        store.append(None, lost(9)).await.expect("append");
        let Some(Next::Row(live)) = tail.placed().await.expect("store") else {
            panic!("no row")
        };
        assert_eq!(Some(&live.cursor), store.cursor(7).await.expect("cursor").as_ref());

        let mut on = Tail::resume(&store, &cursors[3], None).await.expect("resume");
        assert_eq!(places(&mut on).await, [Ok(5), Ok(6), Ok(7)]);
        let mut other = cursors[3].clone();
        other.hash = "0".repeat(64);
        let mut anew = Tail::resume(&store, &other, None).await.expect("resume");
        let all = [Ok(1), Ok(2), Ok(3), Ok(4), Ok(5), Ok(6), Ok(7)];
        assert_eq!(
            places(&mut anew).await,
            [&[Err(ResyncReason::OtherHistory)][..], &all[..]].concat()
        );

        // Rows that are dropped while somebody reads them.
        let mut slow = Tail::resume(&store, &cursors[0], None).await.expect("resume");
        let mut from_the_start = Tail::after(&store, 0, None, None);
        let nothing = clawker_store::Limits {
            max_bytes: u64::MAX,
            max_age: std::time::Duration::ZERO,
        };
        store.retain(nothing, 1 << 50).await.expect("retain");
        store.append(None, lost(10)).await.expect("append");
        assert_eq!(places(&mut slow).await, [Err(ResyncReason::Dropped), Ok(8)]);
        assert_eq!(places(&mut from_the_start).await, [Ok(8)]);
        store.close().await;
    }
}
