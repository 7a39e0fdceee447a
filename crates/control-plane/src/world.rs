//! The host as operators see it: `engine::worldview`, kept up with the journal.
//!
//! Begins with what the store's projection says, because a journal may be long, and goes on with each row. Owned by
//! its subscriber; others read. It is the read model of lists and of status, and nobody decides by it: tasks have
//! their own state, and what is in force is containment's to say.

use std::sync::{Arc, Mutex, PoisonError};

use clawker_engine::containment::asked;
use clawker_engine::worldview::{About, Agent, Apply, Worldview};
use clawker_model::event::{
    AgentCreated, AgentCreating, AgentReadyIntended, AgentReadySent, InitCompleted, InitFailed, InitStarted,
    MainExited, RegistryRow, RegistryRowWritten, StartBegan,
};
use clawker_model::{Event, FullName};
use clawker_store::{AgentRecord, Error, InitProgress, Store};
use tokio::sync::watch;
use tokio::time::Duration;

use crate::bus::{Attend, Notice, Subscription};
use crate::core::Core;

/// How long a reader waits for the rows that were there when it asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// A handle; clones see the same.
#[derive(Clone)]
pub struct World {
    view: Arc<Mutex<Worldview>>,
    applied: Arc<watch::Sender<u64>>,
}

impl World {
    /// The view as of the store's last row.
    pub async fn begin(store: &Store) -> Result<Self, Error> {
        let seq = store.last_seq();
        let mut view = seed(&store.agents().await?, &store.registry().await?);
        view.host.rebuilding = store.rebuilding().await?;
        view.seq = seq;
        Ok(Self {
            view: Arc::new(Mutex::new(view)),
            applied: Arc::new(watch::Sender::new(seq)),
        })
    }

    /// Keeps it up with the journal until shutdown.
    pub fn attend(&self, core: &Core) {
        let (world, seq) = (self.clone(), *self.applied.borrow());
        let attend = Attend {
            name: "worldview",
            from: Subscription::after(&core.store, seq),
            board: core.board.clone(),
            shutdown: core.shutdown.clone(),
            make: move || {
                let world = world.clone();
                move |notice: &Notice| {
                    if let Notice::Row(row) = notice {
                        world.lock().apply(row);
                        world.applied.send_replace(row.seq);
                    }
                }
            },
        };
        attend.spawn(&core.tasks);
    }

    /// Waits until every row up to `seq` is in it; not longer than a second, since an old view is better than none.
    pub async fn as_of(&self, seq: u64) {
        let mut applied = self.applied.subscribe();
        // It can't close: the sender is here.
        let _ = tokio::time::timeout(PATIENCE, applied.wait_for(|applied| *applied >= seq)).await;
    }

    pub fn agent(&self, name: &FullName) -> Option<Agent> {
        self.lock().agents.get(name).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Worldview> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the projection keeps, as the events that it was made from.
fn seed(agents: &[AgentRecord], registry: &[RegistryRow]) -> Worldview {
    let mut view = Worldview::default();
    for record in agents {
        let name = &record.spec.name;
        let mut tell = |at_ms: u64, event: Event| {
            let about = About {
                agent: Some(name),
                seq: 0,
                at_ms,
                cp_life: "",
            };
            event.apply(about, &mut view);
        };
        for event in story(record) {
            tell(record.created_ms, event);
        }
        if let Some(exit) = &record.exit
            && let Some(container) = &record.container
        {
            let exited = MainExited {
                container: container.clone(),
                start: exit.start,
                code: exit.code,
                signal: exit.signal,
                oom: exit.oom,
            };
            tell(exit.at_ms, exited.into());
        }
        if let Some(agent) = view.agents.get_mut(name) {
            agent.asked = asked(&record.causes);
            agent.last_seen_ms = 0;
        }
    }
    for row in registry {
        let about = About {
            agent: Some(&row.name),
            seq: 0,
            at_ms: row.registered_at_ms,
            cp_life: "",
        };
        let written = RegistryRowWritten {
            row: row.clone(),
            token: None,
        };
        Event::from(written).apply(about, &mut view);
    }
    view
}

fn story(record: &AgentRecord) -> Vec<Event> {
    let creating = AgentCreating {
        spec: Box::new(record.spec.clone()),
        run: record.run.clone(),
    };
    let mut story: Vec<Event> = vec![creating.into()];
    let Some(container) = &record.container else {
        return story;
    };
    let (container, run) = (container.clone(), record.run.clone());
    story.push(
        AgentCreated {
            container: container.clone(),
            run,
        }
        .into(),
    );
    let Some(start) = &record.start else { return story };
    story.push(
        StartBegan {
            container: container.clone(),
            start: start.clone(),
            pid: record.start_pid,
        }
        .into(),
    );
    let latest = |of: Option<u64>| of == Some(start.number);
    match &record.init {
        InitProgress::NotStarted => {}
        InitProgress::Running { start, steps, .. } => story.push(
            InitStarted {
                container: container.clone(),
                start: *start,
                steps: *steps,
            }
            .into(),
        ),
        InitProgress::Completed { start, duration_ms } => story.push(
            InitCompleted {
                container: container.clone(),
                start: *start,
                duration_ms: *duration_ms,
            }
            .into(),
        ),
        InitProgress::Failed {
            start,
            step,
            reason,
            detail,
        } => story.push(
            InitFailed {
                container: container.clone(),
                start: *start,
                step: step.clone(),
                reason: *reason,
                detail: detail.clone(),
            }
            .into(),
        ),
    }
    if latest(record.ready_start) {
        let (container, start) = (container.clone(), start.number);
        story.push(AgentReadyIntended { container, start }.into());
    }
    if latest(record.sent_start) {
        let start = start.number;
        // The pid isn't kept.
        story.push(
            AgentReadySent {
                container,
                start,
                pid: 0,
            }
            .into(),
        );
    }
    story
}

#[cfg(test)]
mod tests {
    use clawker_engine::worldview::{Command, ContainerState, PlanState, SessionState, Verdict};
    use serde_json::json;

    use super::*;

    fn event(kind: &str, body: serde_json::Value) -> Event {
        serde_json::from_value(json!({"kind": kind, "body": body})).expect(kind)
    }

    /// A view that a new life of the control plane begins with is the one that its last life had, but for what only
    /// sessions tell.
    #[tokio::test]
    async fn the_projection_seeds_what_rows_would_have_made() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path(), "life").expect("store");
        let name = FullName::parse("clawker.web.a").expect("name");
        let c = "ab".repeat(32);
        let spec = json!({"name": name, "image": "i", "image_id": "sha256:1", "main": {"argv": ["x"], "user": "",
            "env": [], "cwd": "/", "no_new_privs": true, "tty": false, "open_stdin": false, "stop_signal": null},
            "health": null, "plan": {"steps": []}, "secrets": [], "mounts": [], "publish": [],
            "network": {"network": "default"}, "egress": {"egress": "open"}, "resources": {}, "remove": false,
            "on_orphan": "freeze", "owner": "uid:0", "unsafe_options": []});
        let run = "abcdefghijklmnopqrstuv";
        let locked = json!({"network": {"state": "locked"}, "processes": "running", "identity": "valid"});
        let rows = [
            event("AgentCreating", json!({"spec": spec, "run": run})),
            event("AgentCreated", json!({"container": c, "run": run})),
            event(
                "StartBegan",
                json!({"container": c, "pid": 5, "start": {"number": 1, "boot_id": "b", "init_start_time": 3}}),
            ),
            event(
                "RegistryRowWritten",
                json!({"row": {"container": c, "name": name, "start": 1, "generation": 4, "key_hash": "k",
                    "thumbprint": "d".repeat(64), "previous_thumbprint": null, "registered_at_ms": 1}}),
            ),
            event("AgentTrusted", json!({"container": c, "start": 1})),
            event("InitStarted", json!({"container": c, "start": 1, "steps": 1})),
            event("InitCompleted", json!({"container": c, "start": 1, "duration_ms": 1})),
            event("AgentReadyIntended", json!({"container": c, "start": 1})),
            event("AgentReadySent", json!({"container": c, "start": 1, "pid": 9})),
            event(
                "ContainmentAsked",
                json!({"asked": locked, "cause": {"by": "operator:uid:0", "action": {"action": "lock-network"},
                    "reason": "r", "event": 0, "at_ms": 1}}),
            ),
        ];
        let mut lived = Worldview::default();
        for row in rows {
            let row = store.append(Some(&name), row).await.expect("append");
            lived.apply(&row);
        }
        let world = World::begin(&store).await.expect("begin");
        let (lived, seeded) = (&lived.agents[&name], world.agent(&name).expect("an agent"));
        assert_eq!(seeded.container, lived.container);
        assert_eq!(seeded.run, lived.run);
        assert_eq!((seeded.start, seeded.life.state), (1, ContainerState::Running));
        assert_eq!(seeded.asked, lived.asked);
        assert_eq!(
            (seeded.plan.state, lived.plan.state),
            (PlanState::Done, PlanState::Done)
        );
        assert!(matches!(seeded.command.value, Command::Running { .. }));
        let generation = |agent: &Agent| agent.registered.as_ref().map(|row| row.generation);
        assert_eq!((generation(&seeded), generation(lived)), (Some(4), Some(4)));
        assert_eq!(
            (seeded.session.state, seeded.trust.value),
            (SessionState::None, Verdict::Unknown)
        );
    }
}
