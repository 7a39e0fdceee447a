//! The journal for an auditor: whether it is what was written, its signed end, and all of it to take away.

use std::sync::Arc;

use clawker_store::{Cursor, SignedHead};
use clawker_wire::admin::{self as wire, AuditLine};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::error::Fault;
use crate::core::Core;

pub type Lines = ReceiverStream<Result<AuditLine, Status>>;

/// Most heads that one request may bring along.
const MAX_HEADS: usize = 1000;

const PAGE: u32 = 500;

pub async fn verify(core: &Core, request: wire::AuditVerifyRequest) -> Result<wire::AuditReport, Fault> {
    if request.heads.len() > MAX_HEADS {
        return Err(Fault::usage(
            format!("{} heads, the limit is {MAX_HEADS}", request.heads.len()),
            "the newest of them says most",
        ));
    }
    let held = request.heads.into_iter().map(from_wire).collect();
    let audit = core.store.audit(held).await?;
    let findings = audit.findings.iter().map(|finding| wire::AuditFinding {
        seq: finding.seq(),
        text: finding.to_string(),
    });
    Ok(wire::AuditReport {
        sound: audit.is_sound(),
        findings: findings.collect(),
        journal: audit.journal,
        key: audit.key,
        from: audit.from,
        last: audit.last,
        heads: audit.heads,
        too_old: audit.too_old,
        found: audit.found,
    })
}

pub async fn head(core: &Core) -> Result<wire::SignedHead, Fault> {
    Ok(to_wire(core.store.seal().await?))
}

pub async fn export(core: Arc<Core>, request: wire::AuditExportRequest) -> Result<Lines, Fault> {
    let after = begin(&core, &request.cursor).await?;
    let until = core.store.seal().await?.seq;
    let (out, lines) = mpsc::channel(64);
    let (shutdown, tasks) = (core.shutdown.clone(), core.tasks.clone());
    tasks.spawn(async move {
        let send = out.clone();
        tokio::select! {
            ended = relay(&core, after, until, &send) => if let Err(Some(fault)) = ended {
                let _ = out.send(Err(fault.into())).await;
            },
            () = shutdown.cancelled() => {
                let _ = out.send(Err(Fault::stopping().into())).await;
            }
        }
    });
    Ok(ReceiverStream::new(lines))
}

/// An export that silently began elsewhere would pass for a whole one.
async fn begin(core: &Core, cursor: &str) -> Result<u64, Fault> {
    if cursor.is_empty() {
        return Ok(core.store.dropped());
    }
    let cursor: Cursor = cursor
        .parse()
        .map_err(|error: clawker_store::BadCursor| Fault::usage(error.to_string(), "each exported row has one"))?;
    match core.store.resync(&cursor).await? {
        None => Ok(cursor.seq),
        Some(resync) => Err(Fault::state(
            format!("can't go on from that cursor: {}", resync.reason),
            "`clawker audit export` without it exports all that there is",
        )),
    }
}

type Out = mpsc::Sender<Result<AuditLine, Status>>;

/// Rows up to `until`, then the heads; `Err(None)` when nobody listens any more.
async fn relay(core: &Core, mut after: u64, until: u64, out: &Out) -> Result<(), Option<Fault>> {
    let failed = |error: clawker_store::Error| Some(Fault::from(error));
    let first = after;
    while after < until {
        let rows = core.store.export(after, PAGE).await.map_err(failed)?;
        let Some((last, _)) = rows.last() else { break };
        let last = *last;
        for (_, json) in rows.into_iter().filter(|(seq, _)| *seq <= until) {
            out.send(Ok(AuditLine { json })).await.map_err(|_| None::<Fault>)?;
        }
        after = last;
    }
    let mut n = 0;
    loop {
        let heads = core.store.heads(n).await.map_err(failed)?;
        let Some((last, _)) = heads.last() else { return Ok(()) };
        n = *last;
        for (_, head) in heads.into_iter().filter(|(_, head)| head.seq >= first) {
            let json = serde_json::json!({ "head": head }).to_string();
            out.send(Ok(AuditLine { json })).await.map_err(|_| None::<Fault>)?;
        }
    }
}

fn to_wire(head: SignedHead) -> wire::SignedHead {
    wire::SignedHead {
        journal: head.journal,
        seq: head.seq,
        hash: head.hash,
        key: head.key,
        signature: head.signature,
        at_ms: head.at_ms,
    }
}

fn from_wire(head: wire::SignedHead) -> SignedHead {
    SignedHead {
        journal: head.journal,
        seq: head.seq,
        hash: head.hash,
        at_ms: head.at_ms,
        key: head.key,
        signature: head.signature,
    }
}
