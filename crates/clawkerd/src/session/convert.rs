//! Between the session's protobuf and the internal wire.

use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use crate::halves::{End, ExecReport, ExecSpec, Goodbye, HealthSpec, ReadySpec, Reply, Secret, Stage, State, Stray};

pub fn hello_ack(state: State, protocol: u32, execs: Vec<pb::ExecState>) -> pb::HelloAck {
    pb::HelloAck {
        protocol,
        init_life: state.init_life,
        // Kept whole in the program, where whoever looks at it finds it.
        build: std::hint::black_box(crate::BUILD).to_owned(),
        initialized: state.initialized,
        command_running: state.command_running,
        lease_frozen: state.lease_frozen,
        execs,
        session_lives: state.session_lives,
        lease_lost: state.lease_lost,
    }
}

pub fn exec_state(id: &str, report: &ExecReport) -> pb::ExecState {
    pb::ExecState {
        exec_id: id.to_owned(),
        pid: pid(report.pid),
        exited: report.ended.map(|end| exited(id, report, end)),
        drained: report.drained.is_some(),
    }
}

/// The ends that a report knows, in their order.
pub fn ends(id: &str, report: &ExecReport, protocol: u32) -> Vec<Body> {
    // Of a single stage there is nothing to say that Exited doesn't.
    let stages = if protocol >= 2 && report.stages > 1 {
        &report.stage_ends[..]
    } else {
        &[]
    };
    let stages = (0..).zip(stages).filter_map(|(stage, end)| {
        let End { code, signal } = (*end)?;
        Some(Body::StageExit(pb::StageExit {
            exec_id: id.to_owned(),
            stage,
            code,
            signal,
        }))
    });
    let exited = report.ended.map(|end| Body::Exited(exited(id, report, end)));
    let drained = report.drained.map(|held_by_descendants| {
        Body::Drained(pb::Drained {
            exec_id: id.to_owned(),
            held_by_descendants,
        })
    });
    stages.chain(exited).chain(drained).collect()
}

fn exited(id: &str, report: &ExecReport, end: End) -> pb::Exited {
    pb::Exited {
        exec_id: id.to_owned(),
        code: end.code,
        signal: end.signal,
        timed_out: report.timed_out,
        oom: report.oom,
    }
}

pub fn reply(reply: Reply, protocol: u32) -> Body {
    match reply {
        Reply::Done => Body::Done(pb::Done {}),
        Reply::Failed { code, message } => Body::Failed(pb::Failed { code, message }),
        Reply::Started { exec_id, pid: number } => Body::Started(pb::Started {
            exec_id,
            pid: pid(number),
        }),
        Reply::ExecFailed {
            exec_id,
            kind,
            errno,
            stage,
            message,
        } => Body::ExecFailed(pb::ExecFailed {
            exec_id,
            kind,
            errno,
            stage: stage.into(),
            message,
        }),
        Reply::Signalled { .. } if protocol < 2 => Body::Done(pb::Done {}),
        Reply::Signalled { processes, strays } => Body::Signalled(pb::Signalled {
            processes,
            strays: strays
                .into_iter()
                .map(|Stray { pid, name }| pb::Stray { pid, name })
                .collect(),
        }),
        Reply::State(_) => failed("internal", "a state where none was asked for"),
    }
}

pub fn failed(code: &str, message: impl Into<String>) -> Body {
    Body::Failed(pb::Failed {
        code: code.to_owned(),
        message: message.into(),
    })
}

pub fn exec(exec: pb::Exec) -> ExecSpec {
    ExecSpec {
        lossy: exec.on_full() == pb::OnFull::Drop,
        exec_id: exec.exec_id,
        stages: exec
            .stages
            .into_iter()
            .map(|stage| Stage {
                argv: stage.argv,
                user: stage.user,
                env: stage.env,
                cwd: stage.cwd,
            })
            .collect(),
        timeout: exec.timeout,
        stdin: exec.stdin,
        tty: exec.tty.map(|tty| (side(tty.rows), side(tty.cols))),
        on_disconnect: exec.on_disconnect.map(|rule| {
            let goodbye = match rule.goodbye() {
                pb::Goodbye::Hangup => Goodbye::Hangup,
                pb::Goodbye::Kill => Goodbye::Kill,
            };
            (goodbye, rule.after_seconds)
        }),
    }
}

/// `None` without a command.
pub fn ready(ready: pb::AgentReady) -> Option<ReadySpec> {
    let main = ready.main?;
    Some(ReadySpec {
        main: Stage {
            argv: main.argv,
            user: main.user,
            env: main.env,
            cwd: main.cwd,
        },
        no_new_privs: main.no_new_privs,
        tty: main.tty,
        stop_signal: main.stop_signal,
        health: ready
            .health
            .filter(|health| !health.argv.is_empty())
            .map(|health| HealthSpec {
                argv: health.argv,
                interval_ms: health.interval_ms,
                timeout_ms: health.timeout_ms,
                start_period_ms: health.start_period_ms,
                retries: health.retries,
            }),
        secrets: ready
            .secrets
            .into_iter()
            .map(|secret| Secret {
                name: secret.name,
                as_file: secret.as_file,
                content: secret.content.into(),
            })
            .collect(),
    })
}

/// Rows or columns of a terminal.
pub fn side(n: u32) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

fn pid(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}
