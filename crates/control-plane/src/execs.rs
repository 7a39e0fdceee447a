//! Operators' execs, whoever attends to them: one at a time, and in the end the journal knows how they ended.

mod desk;
mod keep;

use std::sync::Arc;

use clawker_model::FullName;
use clawker_model::event::ExecExited;
use clawker_wire::admin::Exit;
use clawker_wire::session as proto;

pub use desk::{Attendance, Desk};
pub use keep::{keep, keep_all};

use crate::agent::AgentHandle;
use crate::core::Core;

/// How PID 1 says that it ended, for an operator.
pub fn exit(exited: &proto::Exited) -> Exit {
    Exit {
        code: exited.code,
        signal: exited.signal,
        oom: exited.oom,
    }
}

/// An exec that somebody attends to.
pub struct Attended {
    pub core: Arc<Core>,
    pub name: FullName,
    pub agent: AgentHandle,
    pub place: Attendance,
    /// Its exit is in the journal.
    pub noted: bool,
}

/// Whether the exit is in the journal for good.
pub async fn note_exit(core: &Core, agent: &FullName, exec: &str, exit: &Exit) -> bool {
    let signal = Some(exit.signal).filter(|signal| *signal != 0);
    let exited = ExecExited {
        exec: exec.to_owned(),
        code: exit.code,
        signal,
        oom: exit.oom,
    };
    match core.store.append_synced(Some(agent), exited).await {
        Ok(_) => true,
        Err(error) => {
            core.board.degraded("journal", format!("exec {exec}: {error}")).await;
            false
        }
    }
}
