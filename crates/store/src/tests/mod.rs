//! Tests of the store, and what they share.

mod adopting;
mod append;
mod chain;
mod conformance;
mod containing;
mod crash;
mod cursors;
mod execs;
mod full;
mod heads;
mod kinds;
mod opening;
mod projecting;
mod rebuild;
mod registry;
mod retention;

use std::path::Path;
use std::time::{Duration, Instant};

use clawker_model::event::{AgentCreated, AgentCreating, Cause, EgressDenied, PolicyDecided, RegistryRow};
use clawker_model::{
    Action, AgentSpec, ContainerId, Egress, Event, FullName, MainSpec, Network, Plan, PluginDigest, Resources, RunId,
    Start, Thumbprint,
};

use crate::db::Which;
use crate::faults::Faults;
use crate::writer::{Command, Writer};
use crate::{AgentRecord, Store};

fn name(n: usize) -> FullName {
    FullName::parse(["clawker.a", "clawker.p.b", "clawker.p.c"][n % 3]).expect("name")
}

fn container(n: usize) -> ContainerId {
    ContainerId::parse(&format!("{n:064x}")).expect("container id")
}

fn thumbprint(n: usize) -> Thumbprint {
    Thumbprint::parse(&format!("{n:064x}")).expect("thumbprint")
}

fn run_id(n: usize) -> RunId {
    RunId::parse(&format!("{n:022}")).expect("run id")
}

fn start(number: u64) -> Start {
    Start {
        number,
        boot_id: "boot".into(),
        init_start_time: 100 + number,
    }
}

fn cause(by: &str, action: Action, reason: &str) -> Cause {
    Cause {
        by: by.into(),
        action,
        reason: reason.into(),
        event: 0,
        at_ms: 1,
    }
}

fn registry_row(c: usize, agent: usize, current: usize, previous: Option<usize>) -> RegistryRow {
    RegistryRow {
        container: container(c),
        name: name(agent),
        start: 1,
        generation: 1,
        key_hash: "k".into(),
        thumbprint: thumbprint(current),
        previous_thumbprint: previous.map(thumbprint),
        registered_at_ms: 5,
    }
}

fn creating(agent: usize) -> Event {
    let spec = AgentSpec {
        name: name(agent),
        image: "alpine".into(),
        image_id: "sha256:0".into(),
        owner: "uid:0".into(),
        main: MainSpec {
            argv: vec!["true".into()],
            user: String::new(),
            env: Vec::new(),
            cwd: String::new(),
            tty: false,
            open_stdin: false,
            stop_signal: None,
            no_new_privs: true,
        },
        health: None,
        secrets: Vec::new(),
        mounts: Vec::new(),
        publish: Vec::new(),
        network: Network::Default,
        egress: Egress::Open,
        resources: Resources::default(),
        plan: Plan::default(),
        remove: false,
        on_orphan: Default::default(),
        absence: Default::default(),
        restart: Default::default(),
        unsafe_options: Vec::new(),
    };
    AgentCreating {
        spec: Box::new(spec),
        run: run_id(agent),
    }
    .into()
}

fn created(agent: usize, c: usize) -> Event {
    AgentCreated {
        container: container(c),
        run: run_id(agent),
    }
    .into()
}

fn denied(total: u64) -> Event {
    EgressDenied { count: 1, total }.into()
}

/// An event with a body of about so many bytes.
fn sized(bytes: usize) -> Event {
    clawker_model::event::OperatorCommand {
        by: "operator:uid:0".into(),
        command: "test".into(),
        detail: "x".repeat(bytes),
    }
    .into()
}

fn open(dir: &Path) -> Store {
    Store::open(dir, "life-1").expect("open")
}

fn open_faulty(dir: &Path) -> (Store, Faults) {
    let faults = Faults::default();
    (Store::open_with(dir, "life-1", faults.clone()).expect("open"), faults)
}

/// Opens again after all handles were dropped, whose threads end in their own time.
fn reopen(dir: &Path) -> Store {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match Store::open(dir, "life-2") {
            Err(crate::Error::Locked { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            other => return other.expect("reopen"),
        }
    }
}

/// Runs something on the writer's thread.
async fn on_writer<T: Send + 'static>(store: &Store, run: impl FnOnce(&Writer) -> T + Send + 'static) -> T {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let command = Command::Test(Box::new(move |writer: &Writer| {
        let _ = reply.send(run(writer));
    }));
    store.writer.send(command).await.expect("writer");
    answer.await.expect("answer")
}

/// Every row of every table of the projection, as text.
fn dump(dir: &Path) -> Vec<String> {
    let conn = rusqlite::Connection::open(Which::State.file(dir)).expect("state.db");
    let tables: Vec<String> = conn
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        .and_then(|mut s| s.query_map([], |row| row.get(0))?.collect())
        .expect("tables");
    let mut lines = Vec::new();
    for table in tables {
        let mut statement = conn.prepare(&format!("SELECT * FROM {table}")).expect("table");
        let columns = statement.column_count();
        let mut rows: Vec<String> = statement
            .query_map([], |row| {
                let values = (0..columns).map(|i| row.get::<_, rusqlite::types::Value>(i));
                Ok(format!("{table} {:?}", values.collect::<Result<Vec<_>, _>>()?))
            })
            .and_then(Iterator::collect)
            .expect("rows");
        rows.sort();
        lines.extend(rows);
    }
    lines
}

/// Changes the journal behind the store's back.
fn tamper(dir: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(Which::Journal.file(dir)).expect("journal.db");
    conn.execute_batch(sql).expect("tampering");
}

/// A store in which one agent lives.
struct World {
    store: Store,
    _dir: tempfile::TempDir,
}

impl World {
    /// One agent, `name(0)`, in `container(1)`.
    async fn with_agent() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let world = Self {
            store: open(dir.path()),
            _dir: dir,
        };
        world.happens(creating(0)).await;
        world.happens(created(0, 1)).await;
        world
    }

    async fn happens(&self, event: impl Into<Event>) -> u64 {
        self.store.append(Some(&name(0)), event).await.expect("append").seq
    }

    async fn agent(&self) -> AgentRecord {
        self.store.agent(&name(0)).await.expect("read").expect("agent")
    }

    async fn causes(&self) -> Vec<(String, &'static str, String)> {
        let causes = self.agent().await.causes;
        causes.into_iter().map(|c| (c.by, c.action.name(), c.reason)).collect()
    }
}

fn code() -> PluginDigest {
    PluginDigest::parse(&"0".repeat(64)).expect("digest")
}

fn decided(state: &str, unavailable: Option<&str>) -> PolicyDecided {
    PolicyDecided {
        policy: "p".into(),
        digest: code(),
        seq: 1,
        verdicts: Vec::new(),
        unavailable: unavailable.map(Into::into),
        fuel: 1,
        micros: 1,
        state_before: String::new(),
        state_after: String::new(),
        state: state.into(),
        facts: None,
    }
}
