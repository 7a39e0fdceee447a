//! Execs that nobody attends to: their exits are journaled, and PID 1 is let forget them some time later.
//!
//! ```text
//!  a client left, or a control plane ─▶ runs ─▶ exited ─▶ ExecExited synced ─▶ 10 min ─▶ acknowledged
//!                                        └───────┴──────────────────────────────┴─▶ somebody asks for it: theirs
//! ```
//!
//! Their output stays where it is, in PID 1's rings, for whoever asks.

use std::sync::Arc;
use std::time::Duration;

use clawker_model::OPERATOR_EXEC;

use super::{Attended, exit, note_exit};
use crate::agent::{AgentHandle, ExecHandle, Session, SessionError};
use crate::core::Core;

/// How long an exec's output and exit are kept after its end for whoever left it.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Attends to every operator's exec that the session's PID 1 knows and nobody attends to.
pub fn keep_all(core: &Arc<Core>, agent: &AgentHandle, since_ms: u64, session: &Session) {
    for id in session.execs() {
        if !id.starts_with(OPERATOR_EXEC) {
            continue;
        }
        let Some(place) = core.execs.attend_if_free(&agent.name, &id) else {
            continue;
        };
        let (core, agent, session) = (core.clone(), agent.clone(), session.clone());
        core.tasks.clone().spawn(async move {
            let name = agent.name.clone();
            let noted = match core.store.exec(&name, since_ms, &id).await {
                Ok(known) => known.is_some_and(|known| known.exited.is_some()),
                Err(error) => return core.board.degraded("journal", format!("exec {id}: {error}")).await,
            };
            let exec = session.handle(&id);
            let whose = Attended {
                core,
                name,
                agent,
                place,
                noted,
            };
            keep(whose, exec).await;
        });
    }
}

/// Attends to it until somebody else does, it can be forgotten, or the agent ends.
pub async fn keep(whose: Attended, exec: ExecHandle) {
    let (over, shutdown) = (whose.place.over(), whose.core.shutdown.clone());
    tokio::select! {
        () = until_forgotten(whose, exec) => {}
        () = over.cancelled() => {}
        () = shutdown.cancelled() => {}
    }
}

async fn until_forgotten(mut whose: Attended, mut exec: ExecHandle) {
    let life = exec.init_life();
    while let Err(error) = follow(&mut whose, &exec).await {
        tracing::debug!(%error, exec = exec.id, "keeping an exec");
        match whose.agent.until_session().await {
            Some(session) if session.init_life() == life && session.knows(&exec.id) => {
                exec = session.handle(&exec.id);
            }
            _ => return,
        }
    }
}

async fn follow(whose: &mut Attended, exec: &ExecHandle) -> Result<(), SessionError> {
    let exited = exec.exited().await?;
    whose.noted = whose.noted || note_exit(&whose.core, &whose.name, &exec.id, &exit(&exited)).await;
    if !whose.noted {
        // PID 1 keeps what couldn't be journaled; a later life of the control plane sees it again.
        return Ok(());
    }
    exec.drained().await?;
    tokio::time::sleep(FORGOTTEN).await;
    exec.ack().await
}
