//! What happens to an agent from its start to the end of its command, read from the journal.
//!
//! ```text
//! doing … ─▶ step 1/n … ─▶ ready ─▶ exit
//!    └──────────┴─▶ refused (init failed, untrusted, ended before it ran, removed)
//! ```

use clawker_docker::Inspect;
use clawker_model::event::{InitFailure, UntrustedReason};
use clawker_model::{ContainerId, Event, FullName, exit};
use clawker_store::AgentRecord;
use clawker_wire::admin::start_progress::Body;
use clawker_wire::admin::{Exit, PlanProgress, Ready, Refused, StartProgress};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tonic::Status;

use super::error::Fault;
use super::tail::Tail;
use crate::core::Core;

/// How long the command's exit may follow the container's end.
const GRACE: Duration = Duration::from_secs(3);
/// How often Docker is asked, should a hint have been lost.
const LOOK: Duration = Duration::from_secs(5);

/// How waiting for a command ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Exit(Exit),
    Refused(Refused),
}

/// What one event means for whoever waits.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    Nothing,
    Progress(Body),
    Over(Outcome),
    /// The container ended; the command's own exit may follow.
    Died(i64),
}

/// Reads events of one agent, from a start on.
#[derive(Debug, Clone)]
pub struct Reader {
    pub name: FullName,
    pub container: ContainerId,
    /// Starts below this one are the past.
    pub floor: u64,
    pub ready: bool,
}

impl Reader {
    /// Reads from the start that runs now, or is next.
    pub fn new(record: &AgentRecord, container: ContainerId, running: bool) -> Self {
        let last = record.start.as_ref().map_or(0, |start| start.number);
        let ended = record.exit.as_ref().is_some_and(|exit| exit.start == last);
        let floor = if running && !ended { last.max(1) } else { last + 1 };
        let ready = record.sent_start.is_some_and(|start| start >= floor);
        Self {
            name: record.spec.name.clone(),
            container,
            floor,
            ready,
        }
    }

    pub fn read(&mut self, event: &Event) -> Meaning {
        let doing = |text: String| Meaning::Progress(Body::Doing(text));
        match event {
            Event::StartBegan(begun) if begun.start.number >= self.floor => doing("clawkerd is there".into()),
            Event::SessionConnected(_) => doing("session established".into()),
            Event::SessionFailed(failed) => doing(format!(
                "no session yet after {} attempts; still listening",
                failed.attempts
            )),
            Event::InitStepStarted(step) => self.step(&step.name, step.index, step.count, false),
            Event::InitStepCompleted(step) => self.step(&step.name, step.index, 0, true),
            Event::InitStepFailed(step) => {
                doing(format!("step {} failed: {} ({})", step.name, step.detail, step.reason))
            }
            Event::InitCompleted(_) => doing("prepared".into()),
            Event::AgentReadySent(sent) if sent.start >= self.floor && !self.ready => {
                self.ready = true;
                Meaning::Progress(Body::Ready(Ready { pid: sent.pid }))
            }
            Event::InitFailed(failed) if failed.start >= self.floor => {
                let code = not_started(&failed.step, failed.reason, &failed.detail);
                let reason = format!("`{}` failed: {}: {}", failed.step, failed.reason, failed.detail);
                self.refused(
                    reason,
                    format!("see `clawker logs {0}` and `clawker events --agent {0}`", self.name),
                    code,
                )
            }
            // It was somebody else.
            Event::AgentUntrusted(untrusted) if untrusted.intruder => Meaning::Nothing,
            // Both heal by themselves: a new leaf, a registry that answers again.
            Event::AgentUntrusted(untrusted)
                if matches!(
                    untrusted.reason,
                    UntrustedReason::CertExpired | UntrustedReason::RegistryUnavailable
                ) =>
            {
                doing(format!("not trusted yet: {}", untrusted.reason))
            }
            Event::AgentUntrusted(untrusted) => {
                let reason = format!("the agent isn't trusted: {}: {}", untrusted.reason, untrusted.detail);
                self.refused(reason, format!("see `clawker why {}`", self.name), exit::NOT_PERMITTED)
            }
            Event::IdentityRevoked(revoked) => {
                let reason = format!("the agent's identity was revoked by {}", revoked.by);
                self.refused(
                    reason,
                    format!("`clawker release {}` gives it back", self.name),
                    exit::NOT_PERMITTED,
                )
            }
            Event::ContainerDied(died) if died.container == self.container => Meaning::Died(died.exit_code),
            Event::MainExited(exited) if exited.container == self.container && exited.start >= self.floor => {
                Meaning::Over(Outcome::Exit(Exit {
                    code: exited.code,
                    signal: exited.signal.unwrap_or_default(),
                    oom: exited.oom,
                }))
            }
            Event::AgentRemoved(_) => self.gone(),
            _ => Meaning::Nothing,
        }
    }

    /// The container ended, and nothing was heard of the command.
    pub fn died(&self, code: i64) -> Outcome {
        if self.ready {
            let code = i32::try_from(code).unwrap_or(i32::from(exit::FAILED));
            return Outcome::Exit(Exit {
                code,
                signal: 0,
                oom: false,
            });
        }
        Outcome::Refused(Refused {
            reason: format!("the container ended with code {code} before its command ran"),
            hint: format!("see `clawker logs {}`", self.name),
            exit: exit::NOT_STARTED.into(),
        })
    }

    fn gone(&self) -> Meaning {
        let hint = "see `clawker events` for who removed it".to_owned();
        self.refused(
            "the agent was removed before its command ended".into(),
            hint,
            exit::FAILED,
        )
    }

    fn refused(&self, reason: String, hint: String, exit: u8) -> Meaning {
        Meaning::Over(Outcome::Refused(Refused {
            reason,
            hint,
            exit: exit.into(),
        }))
    }

    fn step(&self, name: &str, index: u32, count: u32, completed: bool) -> Meaning {
        Meaning::Progress(Body::Step(PlanProgress {
            name: name.to_owned(),
            index,
            count,
            completed,
        }))
    }
}

/// Docker's codes for a command that couldn't be started.
fn not_started(step: &str, reason: InitFailure, detail: &str) -> u8 {
    match (step, reason, detail.split(':').next()) {
        ("agent-ready", InitFailure::StartFailed, Some("not_found")) => exit::NOT_FOUND,
        ("agent-ready", InitFailure::StartFailed, Some("not_executable")) => exit::NOT_EXECUTABLE,
        _ => exit::NOT_STARTED,
    }
}

/// Who is told what is on the way.
pub struct Listener {
    pub out: mpsc::Sender<Result<StartProgress, Status>>,
    /// Hears no more once the command runs.
    pub until_ready: bool,
}

impl Listener {
    /// Whether there is more to say.
    async fn say(&self, body: Body) -> bool {
        let last = self.until_ready && matches!(body, Body::Ready(_));
        self.out.send(Ok(StartProgress { body: Some(body) })).await.is_ok() && !last
    }
}

/// Follows until it is over, saying what is on the way. `None` when the listener has had enough.
pub async fn follow(
    core: &Core,
    mut tail: Tail,
    mut reader: Reader,
    listener: Option<Listener>,
) -> Result<Option<Outcome>, Fault> {
    let mut died: Option<(Instant, i64)> = None;
    let mut next_look = Instant::now() + LOOK;
    loop {
        tokio::select! {
            row = tail.next() => {
                let Some(row) = row? else { return Err(Fault::stopping()) };
                match reader.read(&row.event) {
                    Meaning::Nothing => {}
                    Meaning::Progress(body) => if let Some(listener) = &listener && !listener.say(body).await {
                        return Ok(None);
                    },
                    Meaning::Died(code) => died = Some((Instant::now() + GRACE, code)),
                    Meaning::Over(outcome) => {
                        // What is answered upon has to outlive a power cut.
                        if let Err(error) = core.store.wait_synced(row.seq).await {
                            tracing::warn!(%error, "an exit was answered that isn't synced");
                        }
                        return Ok(Some(outcome));
                    }
                }
            }
            () = tokio::time::sleep_until(died.map_or_else(|| Instant::now() + LOOK, |(at, _)| at)), if died.is_some() => {
                return Ok(died.map(|(_, code)| reader.died(code)));
            }
            () = tokio::time::sleep_until(next_look), if died.is_none() => {
                next_look = Instant::now() + LOOK;
                match core.docker.inspect(&reader.container).await {
                    Ok(Some(inspect)) if ended(&inspect) => died = Some((Instant::now() + GRACE, inspect.exit_code)),
                    Ok(Some(_)) => {}
                    Ok(None) => if let Meaning::Over(outcome) = reader.gone() {
                        return Ok(Some(outcome));
                    },
                    // The engine is away; it is the board's to say so.
                    Err(error) => tracing::debug!(%error, "looking at a followed agent"),
                }
            }
            () = core.shutdown.cancelled() => return Err(Fault::stopping()),
        }
    }
}

fn ended(inspect: &Inspect) -> bool {
    !inspect.running && matches!(inspect.status.as_str(), "exited" | "dead")
}

#[cfg(test)]
mod tests {
    use clawker_model::event::{
        AgentReadySent, AgentRemoved, AgentUntrusted, ContainerDied, InitFailed, InitStepStarted, MainExited,
    };

    use super::*;

    fn container(n: u8) -> ContainerId {
        ContainerId::parse(&format!("{n:02x}").repeat(32)).expect("id")
    }

    fn reader() -> Reader {
        let name = FullName::parse("clawker.a").expect("name");
        Reader {
            name,
            container: container(1),
            floor: 2,
            ready: false,
        }
    }

    fn exited(n: u8, start: u64) -> Event {
        MainExited {
            container: container(n),
            start,
            code: 7,
            signal: None,
            oom: false,
        }
        .into()
    }

    #[test]
    fn only_this_starts_exit_counts() {
        assert_eq!(reader().read(&exited(1, 1)), Meaning::Nothing);
        assert_eq!(reader().read(&exited(2, 2)), Meaning::Nothing);
        let over = Meaning::Over(Outcome::Exit(Exit {
            code: 7,
            signal: 0,
            oom: false,
        }));
        assert_eq!(reader().read(&exited(1, 2)), over);
    }

    #[test]
    fn an_end_before_the_command_ran_is_a_refusal() {
        let died = ContainerDied {
            container: container(1),
            exit_code: 137,
            start: 2,
        }
        .into();
        let mut reader = reader();
        assert_eq!(reader.read(&died), Meaning::Died(137));
        assert!(matches!(reader.died(137), Outcome::Refused(refused) if refused.exit == 125));
        reader.read(
            &AgentReadySent {
                container: container(1),
                start: 2,
                pid: 9,
            }
            .into(),
        );
        assert!(matches!(reader.died(137), Outcome::Exit(Exit { code: 137, .. })));
    }

    #[test]
    fn a_command_that_cannot_start_has_dockers_codes() {
        let failed = |step: &str, detail: &str| {
            let failed = InitFailed {
                container: container(1),
                start: 2,
                step: step.into(),
                reason: InitFailure::StartFailed,
                detail: detail.into(),
            };
            match reader().read(&failed.into()) {
                Meaning::Over(Outcome::Refused(refused)) => refused.exit,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(failed("agent-ready", "not_found: no such file: nope"), 127);
        assert_eq!(failed("agent-ready", "not_executable: x"), 126);
        assert_eq!(failed("agent-ready", "bad_user: x"), 125);
        assert_eq!(failed("welcome", "not_found: x"), 125);
    }

    #[test]
    fn what_heals_by_itself_refuses_nothing() {
        let untrusted = |reason| {
            reader().read(
                &AgentUntrusted {
                    reason,
                    detail: "x".into(),
                    intruder: false,
                }
                .into(),
            )
        };
        assert!(matches!(untrusted(UntrustedReason::CertExpired), Meaning::Progress(_)));
        let refused = untrusted(UntrustedReason::ChainInvalid);
        assert!(matches!(refused, Meaning::Over(Outcome::Refused(refused)) if refused.exit == 77));
        let removed = reader().read(&AgentRemoved { container: None }.into());
        assert!(matches!(removed, Meaning::Over(Outcome::Refused(_))));
    }

    #[test]
    fn steps_are_shown() {
        let step = InitStepStarted {
            name: "welcome".into(),
            index: 1,
            count: 2,
            key: "k".into(),
        };
        let Meaning::Progress(Body::Step(shown)) = reader().read(&step.into()) else {
            panic!("no progress")
        };
        assert_eq!((shown.index, shown.count, shown.completed), (1, 2, false));
    }
}
