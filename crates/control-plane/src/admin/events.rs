//! The journal's rows for an operator: those that were, then those that come.

use std::sync::Arc;

use clawker_model::{Event, FullName};
use clawker_store::{Cursor, Error, Placed, Store};
use clawker_wire::admin::{self as wire, EventRow, WatchEventsRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::error::Fault;
use super::resolve::resolve;
use super::tail::{Next, Tail};
use crate::core::Core;

pub type Rows = ReceiverStream<Result<EventRow, Status>>;

pub async fn watch(core: Arc<Core>, request: WatchEventsRequest) -> Result<Rows, Fault> {
    let agent = agent(&core, &request.agent).await?;
    let mut tail = match cursor(&request)? {
        Some(cursor) => Tail::resume(&core.store, &cursor, agent).await?,
        None => Tail::after(&core.store, request.after_seq.unwrap_or(0), request.since_ms, agent),
    };
    let (out, rows) = mpsc::channel(64);
    let (shutdown, tasks) = (core.shutdown.clone(), core.tasks.clone());
    tasks.spawn(async move {
        let relay = async {
            loop {
                let next = if request.follow {
                    tail.placed().await
                } else {
                    tail.placed_past().await
                };
                let shown = match next {
                    Ok(Some(next)) => show(&core.store, next).await,
                    Ok(None) => return,
                    Err(error) => Err(error),
                };
                let row: Result<EventRow, Status> = shown.map_err(|error| Fault::from(error).into());
                let failed = row.is_err();
                if out.send(row).await.is_err() || failed {
                    return;
                }
            }
        };
        tokio::select! {
            () = relay => {}
            () = out.closed() => {}
            () = shutdown.cancelled() => {
                let _ = out.send(Err(Fault::stopping().into())).await;
            }
        }
    });
    Ok(ReceiverStream::new(rows))
}

/// The place to go on from, if the request names one.
fn cursor(request: &WatchEventsRequest) -> Result<Option<Cursor>, Fault> {
    if request.cursor.is_empty() {
        return Ok(None);
    }
    if request.after_seq.is_some() || request.since_ms.is_some() {
        return Err(Fault::usage("a cursor, and a number or a time", "give one of them"));
    }
    let cursor = request.cursor.parse();
    cursor.map(Some).map_err(|error: clawker_store::BadCursor| {
        Fault::usage(error.to_string(), "`clawker events --json` shows each event's")
    })
}

/// What may be shown: a row that a power cut could still take isn't, or its cursor would soon be of another history.
async fn show(store: &Store, next: Next) -> Result<EventRow, Error> {
    match next {
        Next::Row(placed) => {
            store.wait_synced(placed.row.seq).await?;
            Ok(event_row(&placed))
        }
        Next::Resync(resync) => Ok(EventRow {
            resync: Some(wire::Resync {
                reason: resync.reason.name().into(),
                from: resync.from.to_string(),
                detail: resync.reason.to_string(),
            }),
            ..EventRow::default()
        }),
    }
}

/// Events outlive their agents, so a well-formed name is enough.
async fn agent(core: &Core, wanted: &str) -> Result<Option<FullName>, Fault> {
    if wanted.is_empty() {
        return Ok(None);
    }
    match (resolve(core, wanted).await, FullName::parse_short(wanted)) {
        (Ok(found), _) => Ok(Some(found.name)),
        (Err(_), Ok(name)) => Ok(Some(name)),
        (Err(fault), Err(_)) => Err(fault),
    }
}

fn event_row(placed: &Placed) -> EventRow {
    let row = &placed.row;
    EventRow {
        seq: row.seq,
        at_ms: row.at_ms,
        kind: row.event.kind().to_owned(),
        agent: row.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        body: body(&row.event),
        cursor: placed.cursor.to_string(),
        resync: None,
    }
}

/// An event's body alone, as JSON.
fn body(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    value.get("body").map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clawker_model::Row;
    use clawker_model::event::EgressDenied;

    use super::*;

    #[test]
    fn a_row_is_shown_with_its_body_alone() {
        let row = Row {
            seq: 3,
            at_ms: 5,
            cp_life: "x".into(),
            agent: FullName::parse("clawker.p.a").ok(),
            event: EgressDenied { count: 1, total: 2 }.into(),
        };
        let cursor = Cursor {
            journal: "ab".into(),
            seq: 3,
            hash: "cd".into(),
        };
        let shown = event_row(&Placed { row, cursor });
        assert_eq!(shown.cursor, "ab/3/cd");
        assert_eq!(
            (shown.kind.as_str(), shown.agent.as_str()),
            ("EgressDenied", "clawker.p.a")
        );
        assert_eq!(shown.body, r#"{"count":1,"total":2}"#);
    }

    #[test]
    fn a_cursor_stands_alone_and_is_well_formed() {
        let request = |cursor: &str, after_seq| WatchEventsRequest {
            cursor: cursor.into(),
            after_seq,
            ..Default::default()
        };
        let good = format!("{}/3/{}", "a".repeat(32), "b".repeat(64));
        assert_eq!(cursor(&request("", Some(3))).expect("none"), None);
        assert_eq!(cursor(&request(&good, None)).expect("one").expect("one").seq, 3);
        for bad in [request(&good, Some(1)), request("3", None), request("a/b/c", None)] {
            let fault = cursor(&bad).expect_err("refused");
            assert_eq!(fault.exit, clawker_model::exit::USAGE);
        }
    }
}
