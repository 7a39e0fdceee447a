//! The journal as a stream: what was, then what comes, each row once and in order.
//!
//! Subscribes before it reads the past, and drops what it has seen. A receiver that fell behind the bus reads on
//! from the store and comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use clawker_model::{FullName, Row};
use clawker_store::{Error, Store};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

const PAGE: u32 = 500;

pub struct Tail {
    store: Store,
    live: Receiver<Arc<Row>>,
    agent: Option<FullName>,
    since_ms: Option<u64>,
    last: u64,
    past: VecDeque<Row>,
    reading_past: bool,
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
        }
    }

    /// Rows from now on.
    pub fn from_now(store: &Store, agent: FullName) -> Self {
        let live = store.subscribe();
        let last = store.last_seq();
        Self {
            live,
            last,
            store: store.clone(),
            agent: Some(agent),
            since_ms: None,
            past: VecDeque::new(),
            // What is read from the store after this, it knows already.
            reading_past: false,
        }
    }

    /// The next row of the past; `None` once it has caught up with the present.
    pub async fn next_past(&mut self) -> Result<Option<Row>, Error> {
        while self.reading_past {
            if let Some(row) = self.past.pop_front() {
                self.last = row.seq;
                return Ok(Some(row));
            }
            let page = self
                .store
                .rows(self.last, PAGE, self.agent.as_ref(), self.since_ms)
                .await?;
            self.reading_past = !page.is_empty();
            self.past = page.into();
        }
        Ok(None)
    }

    /// The next row, waiting for it; `None` when the store has closed.
    pub async fn next(&mut self) -> Result<Option<Row>, Error> {
        loop {
            if let Some(row) = self.next_past().await? {
                return Ok(Some(row));
            }
            match self.live.recv().await {
                Ok(row) if row.seq <= self.last => {}
                Ok(row) => {
                    self.last = row.seq;
                    if self.wants(&row) {
                        return Ok(Some(row.as_ref().clone()));
                    }
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
                .append(Some(if n % 2 == 0 { &a } else { &b }), LeaseLost { seconds: n })
                .await
                .expect("append");
        }
        let mut all = Tail::after(&store, 0, None, None);
        let mut only = Tail::after(&store, 10, None, Some(b.clone()));
        let mut now = Tail::from_now(&store, a.clone());
        assert_eq!(seqs(&mut all, 700).await, (1..=700).collect::<Vec<_>>());
        // More than the bus holds, while nobody listens.
        for n in 0..5000 {
            store.append(Some(&a), LeaseLost { seconds: n }).await.expect("append");
        }
        assert_eq!(seqs(&mut all, 5500).await, (701..=6200).collect::<Vec<_>>());
        let of_b: Vec<u64> = (11..=1200).filter(|seq| seq % 2 == 0).collect();
        assert_eq!(seqs(&mut only, of_b.len()).await, of_b);
        assert_eq!(seqs(&mut now, 5000).await, (1201..=6200).collect::<Vec<_>>());
        assert_eq!(only.next_past().await.expect("store"), None);
        store.append(Some(&b), LeaseLost { seconds: 0 }).await.expect("append");
        assert_eq!(seqs(&mut only, 1).await, [6201]);
    }
}
