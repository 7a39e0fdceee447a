//! The journal's rows for an operator: those that were, then those that come.

use std::sync::Arc;

use clawker_model::{Event, FullName, Row};
use clawker_wire::admin::{EventRow, WatchEventsRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::error::Fault;
use super::resolve::resolve;
use super::tail::Tail;
use crate::core::Core;

pub type Rows = ReceiverStream<Result<EventRow, Status>>;

pub async fn watch(core: Arc<Core>, request: WatchEventsRequest) -> Result<Rows, Fault> {
    let agent = agent(&core, &request.agent).await?;
    let mut tail = Tail::after(&core.store, request.after_seq.unwrap_or(0), request.since_ms, agent);
    let (out, rows) = mpsc::channel(64);
    let shutdown = core.shutdown.clone();
    core.tasks.spawn(async move {
        let relay = async {
            loop {
                let next = if request.follow {
                    tail.next().await
                } else {
                    tail.next_past().await
                };
                let row = match next {
                    Ok(Some(row)) => Ok(event_row(&row)),
                    Ok(None) => return,
                    Err(error) => Err(Fault::from(error).into()),
                };
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

pub fn event_row(row: &Row) -> EventRow {
    EventRow {
        seq: row.seq,
        at_ms: row.at_ms,
        kind: row.event.kind().to_owned(),
        agent: row.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        body: body(&row.event),
    }
}

/// An event's body alone, as JSON.
fn body(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    value.get("body").map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
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
        let shown = event_row(&row);
        assert_eq!(
            (shown.kind.as_str(), shown.agent.as_str()),
            ("EgressDenied", "clawker.p.a")
        );
        assert_eq!(shown.body, r#"{"count":1,"total":2}"#);
    }
}
