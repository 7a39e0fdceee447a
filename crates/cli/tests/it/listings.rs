//! What `ps`, `why`, `status`, `events` and `logs` show.

use std::collections::BTreeMap;

use clawker_wire::admin::*;
use insta::assert_snapshot;

use crate::fake::Say;
use crate::stage::{NOW, Props, Stage};

fn scout() -> AgentView {
    AgentView {
        name: "clawker.web.scout".into(),
        project: "web".into(),
        agent: "scout".into(),
        container_id: "c".repeat(64),
        image: "registry.example/agents/scout:1.4".into(),
        status: "running".into(),
        session: "connected".into(),
        trust: "trusted".into(),
        plan: "done".into(),
        containment: "locked, frozen".into(),
        start: 2,
        last_seen_ms: NOW - 900,
        exit_code: None,
        init_pid: 4711,
        health: "healthy".into(),
        command: "python -m scout --site https://example.org".into(),
        owner: "uid:0".into(),
        created_ms: NOW - 240_000,
        session_since_ms: NOW - 200_000,
        session_address: "unix:abcdefghijklmnopqrstuv".into(),
        session_attempts: 1,
        session_detail: String::new(),
        trust_detail: String::new(),
        trust_since_ms: NOW - 199_000,
        registered: true,
        generation: 3,
        intruder: None,
        plan_detail: String::new(),
        command_state: "running".into(),
        containment_asked: "locked, frozen".into(),
        health_detail: String::new(),
        ended: None,
    }
}

/// An agent of which there is more to say.
fn suspect() -> AgentView {
    AgentView {
        session: "broken".into(),
        session_attempts: 4,
        session_detail: "the stream ended".into(),
        trust: "cert_expired".into(),
        trust_detail: "not after 2026-01-31T08:00:00Z".into(),
        registered: false,
        intruder: Some(Intruder {
            reason: "peer_mismatch".into(),
            detail: "pid 77 isn't the init 4711".into(),
            at_ms: NOW - 60_000,
        }),
        plan: "failed: git".into(),
        plan_detail: "git: exit_nonzero: 128".into(),
        command_state: "waiting".into(),
        containment: String::new(),
        containment_asked: "locked".into(),
        health: "unhealthy".into(),
        health_detail: "exit 1".into(),
        exit_code: Some(7),
        ended: Some(Ended {
            start: 1,
            code: 137,
            signal: 9,
            oom: true,
            at_ms: NOW - 300_000,
        }),
        ..scout()
    }
}

fn done() -> AgentView {
    AgentView {
        name: "clawker.once".into(),
        status: "exited".into(),
        session: "none".into(),
        exit_code: Some(7),
        health: String::new(),
        image: "busybox".into(),
        command: "sh -c 'exit 7'".into(),
        containment: "open".into(),
        created_ms: NOW - 90_000_000,
        ..scout()
    }
}

fn stage() -> Stage {
    let stage = Stage::new();
    stage.fake.with(|scene| scene.agents = vec![done(), scout()]);
    stage
}

#[tokio::test]
async fn ps_for_people() {
    let seen = stage().run(&["ps", "--all"], Props::default()).await;
    assert_snapshot!(seen.out(), @r#"
    AGENT      STATUS             CONTAINMENT     SESSION    TRUST    PLAN  SEEN  CREATED        IMAGE                              COMMAND
    once       exited (7)         open            none       trusted  done  0s    25 hours ago   busybox                            sh -c 'exit 7'
    web.scout  running (healthy)  locked, frozen  connected  trusted  done  0s    4 minutes ago  registry.example/agents/scout:1.4  python -m scout --site https://example.org
    "#);
}

#[tokio::test]
async fn ps_fits_the_terminal() {
    for width in [120, 100, 80, 40, 5] {
        let seen = stage().run(&["ps"], Props::terminal(width)).await;
        for line in seen.out().lines() {
            assert!(line.chars().count() <= usize::from(width), "{line}");
        }
    }
    let seen = stage().run(&["ps"], Props::terminal(120)).await;
    assert_snapshot!(seen.out(), @r#"
    AGENT      STATUS             CONTAINMENT     SESSION    TRUST    PLAN  SEEN  CREATED        IMAGE          COMMAND
    once       exited (7)         open            none       trusted  done  0s    25 hours ago   busybox        sh -c 'exit…
    web.scout  running (healthy)  locked, frozen  connected  trusted  done  0s    4 minutes ago  registry.exa…  python -m…
    "#);
    let seen = stage().run(&["ps"], Props::terminal(80)).await;
    assert_snapshot!(seen.out(), @r#"
    AGENT      STATUS             CONTAINMENT     SESSION    TRUST    PLAN  SEEN
    once       exited (7)         open            none       trusted  done  0s
    web.scout  running (healthy)  locked, frozen  connected  trusted  done  0s
    "#);
}

#[tokio::test]
async fn ps_for_programs() {
    let seen = stage().run(&["ps", "--json"], Props::default()).await;
    assert_snapshot!(seen.out().lines().next().unwrap_or_default(), @r#"{"agent":"scout","command":"sh -c 'exit 7'","command_state":"running","container_id":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","containment":"open","containment_asked":"locked, frozen","created_ms":1769760000000,"ended":null,"exit_code":7,"generation":3,"health":"","health_detail":"","image":"busybox","init_pid":4711,"intruder":null,"last_seen_ms":1769849999100,"name":"clawker.once","owner":"uid:0","plan":"done","plan_detail":"","project":"web","registered":true,"session":"none","session_address":"unix:abcdefghijklmnopqrstuv","session_attempts":1,"session_detail":"","session_since_ms":1769849800000,"start":2,"status":"exited","trust":"trusted","trust_detail":"","trust_since_ms":1769849801000}"#);
    let seen = stage().run(&["ps", "-q"], Props::default()).await;
    assert_eq!(seen.out(), "once\nweb.scout\n");
}

#[tokio::test]
async fn inspect_tells_what_is_known_and_why() {
    let stage = Stage::new();
    stage.fake.with(|scene| scene.agents = vec![scout()]);
    let seen = stage.run(&["inspect", "web.scout"], Props::default()).await;
    assert_snapshot!(seen.out(), @r#"
    web.scout
      Status       running (healthy), start 2, init 4711
      Session      connected, for 3 minutes
      Address      unix:abcdefghijklmnopqrstuv
      Trust        trusted, for 3 minutes
      Registry     registered, generation 3
      Plan         done
      Command      python -m scout --site https://example.org (running)
      Containment  locked, frozen
      Last seen    just now
      Image        registry.example/agents/scout:1.4
      Container    cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc
      Owner        uid:0
      Created      4 minutes ago
    "#);
    stage.fake.with(|scene| scene.agents = vec![suspect()]);
    let seen = stage.run(&["inspect", "web.scout"], Props::default()).await;
    assert_snapshot!(seen.out(), @r#"
    web.scout
      Status       running (unhealthy), start 2, init 4711
      Health       exit 1
      Session      broken, for 3 minutes, 4 attempts: the stream ended
      Address      unix:abcdefghijklmnopqrstuv
      Trust        cert_expired, for 3 minutes: not after 2026-01-31T08:00:00Z
      Registry     not registered
      Intruder     peer_mismatch, 60 seconds ago: pid 77 isn't the init 4711
      Plan         failed: git: git: exit_nonzero: 128
      Command      python -m scout --site https://example.org (waiting)
      Containment  nothing is in force; asked for: locked
      Last exit    signal 9, out of memory, start 1, 5 minutes ago
      Last seen    just now
      Image        registry.example/agents/scout:1.4
      Container    cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc
      Owner        uid:0
      Created      4 minutes ago
    "#);
}

/// What programs read has the fields that docs/json.md names, and no others, each of the type it has there.
#[tokio::test]
async fn json_is_as_it_is_documented() {
    let page = include_str!("../../../../docs/json.md");
    let stage = Stage::new();
    stage.fake.with(|scene| {
        scene.agents = vec![suspect()];
        scene.status = healthy();
    });
    for (heading, line) in [
        ("## An agent", ["inspect", "web.scout", "--json"].as_slice()),
        ("## The control plane", &["status", "--json"]),
    ] {
        let section = page.split_once(heading).expect(heading).1;
        let section = section.split("\n## ").next().unwrap_or_default();
        let documented: BTreeMap<&str, &str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|line| line.split_once("` | "))
            .filter_map(|(field, rest)| Some((field, rest.split_once(" |")?.0)))
            .collect();
        let seen = stage.run(line, Props::default()).await;
        let object: serde_json::Value = serde_json::from_str(&seen.out()).expect("JSON");
        let mut shown = BTreeMap::new();
        fields("", &object, &mut shown);
        let shown: BTreeMap<&str, &str> = shown.iter().map(|(field, kind)| (field.as_str(), *kind)).collect();
        let missing: Vec<_> = shown
            .iter()
            .filter(|field| !documented.contains_key(*field.0))
            .collect();
        assert!(missing.is_empty(), "docs/json.md doesn't have {missing:?}");
        for (field, kind) in documented {
            let kind = kind.trim_end_matches(" or null");
            assert_eq!(shown.get(field), Some(&kind), "`{field}` of docs/json.md");
        }
    }
}

/// Every field with its type; `plugins[].name` is in each plugin.
fn fields(prefix: &str, value: &serde_json::Value, into: &mut BTreeMap<String, &'static str>) {
    use serde_json::Value;
    let kind = match value {
        Value::Object(object) => {
            for (key, value) in object {
                let at = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                fields(&at, value, into);
            }
            "object"
        }
        Value::Array(items) => {
            items.iter().for_each(|item| fields(&format!("{prefix}[]"), item, into));
            "list"
        }
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
    };
    if !prefix.is_empty() && !prefix.ends_with("[]") {
        into.insert(prefix.to_owned(), kind);
    }
}

#[tokio::test]
async fn ps_of_nothing() {
    let seen = Stage::new().run(&["ps"], Props::default()).await;
    assert_eq!(seen.err, "No agent runs. Those that don't: `clawker ps --all`.\n");
}

fn contained() -> WhyResponse {
    WhyResponse {
        agent: "clawker.web.scout".into(),
        in_force: "locked, frozen".into(),
        causes: vec![
            WhyCause {
                by: "operator:uid:0".into(),
                action: "freeze".into(),
                reason: "looking into it".into(),
                event: String::new(),
                at_ms: NOW - 30_000,
            },
            WhyCause {
                by: "policy:egress-guard".into(),
                action: "lock-network".into(),
                reason: "denied egress twice within 60 s".into(),
                event: r#"{"seq":41,"at_ms":1,"kind":"EgressDenied","body":{"count":1,"total":2}}"#.into(),
                at_ms: NOW - 240_000,
            },
        ],
        hint: "clawker release web.scout".into(),
    }
}

#[tokio::test]
async fn why_is_a_story() {
    let stage = Stage::new();
    stage.fake.with(|scene| scene.why = contained());
    let seen = stage.run(&["why", "web.scout"], Props::default()).await;
    assert_snapshot!(seen.out(), @r#"
    web.scout is locked, frozen

      operator uid 0, 30 seconds ago
        “looking into it”
      → freeze

      EgressDenied (event 41): count 1, total 2
      → policy egress-guard, 4 minutes ago
        “denied egress twice within 60 s”
      → lock-network

    To undo it: clawker release web.scout
    "#);
    let seen = stage.run(&["why", "web.scout", "--json"], Props::default()).await;
    assert_snapshot!(seen.out(), @r#"{"agent":"clawker.web.scout","causes":[{"action":"freeze","at_ms":1769849970000,"by":"operator:uid:0","event":null,"reason":"looking into it"},{"action":"lock-network","at_ms":1769849760000,"by":"policy:egress-guard","event":{"at_ms":1,"body":{"count":1,"total":2},"kind":"EgressDenied","seq":41},"reason":"denied egress twice within 60 s"}],"hint":"clawker release web.scout","in_force":"locked, frozen"}"#);
}

#[tokio::test]
async fn why_not() {
    let stage = Stage::new();
    stage.fake.with(|scene| {
        scene.why = WhyResponse {
            agent: "clawker.a".into(),
            in_force: "open".into(),
            ..WhyResponse::default()
        };
    });
    let seen = stage.run(&["why", "a"], Props::default()).await;
    assert_eq!(seen.out(), "a is open\nNothing contains it.\n");
}

#[tokio::test]
async fn status_for_people() {
    let stage = Stage::new();
    stage.fake.with(|scene| scene.status = healthy());
    let mut seen = stage.run(&["status"], Props::default()).await;
    seen.stdout = seen
        .out()
        .replace(stage.socket().to_str().unwrap_or_default(), "SOCKET")
        .into();
    assert_snapshot!(seen.out(), @r#"
    Control plane  clawker 0.1.0, up 3 hours, life k3v9
    Socket         SOCKET
    State          /var/lib/clawker, 1234 events in the journal
    Engine         Docker 20.10.24, API 1.41
    Cgroups        v1, cgroupfs
    Agents         3 agents, 1 session

    SUBSYSTEM  STATE     SINCE  DETAIL
    docker     ok        -
    netfilter  degraded  2m     nf_tables: no such file

    netfilter: nf_tables: no such file
      → load the module

    PLUGIN        VERSION  KIND    MODE     DIGEST
    egress-guard  0.1.0    policy  enforce  dddddddddddd
    "#);
    let seen = stage.run(&["status", "--json"], Props::default()).await;
    assert_snapshot!(seen.out(), @r#"{"agents":3,"cgroup":"v1, cgroupfs","cp_life":"k3v9","engine":"Docker 20.10.24, API 1.41","journal_seq":1234,"plugins":[{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","kind":"policy","mode":"enforce","name":"egress-guard","version":"0.1.0"}],"sessions":1,"started_ms":1769839200000,"state_dir":"/var/lib/clawker","subsystems":[{"degraded":false,"detail":"","hint":"","name":"docker","since_ms":0},{"degraded":true,"detail":"nf_tables: no such file","hint":"load the module","name":"netfilter","since_ms":1769849875000}],"version":"0.1.0"}"#);
}

#[tokio::test]
async fn the_authority_in_the_middle_of_a_rotation() {
    let stage = Stage::new();
    let seen = stage.run(&["ca"], Props::default()).await;
    let out = seen.out();
    for part in [
        "a new root is trusted, and signs once all agents know it",
        "aaaaaaaaaaaaaaaa  signs, ends in ",
        "bbbbbbbbbbbbbbbb  trusted\n",
        "aaaaaaaaaaaaaaaa  signed by the fleet",
        "3 trusted agents connected, 1 of them up to date",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!out.contains('\u{1b}'), "{out:?}");
    let seen = stage.run(&["ca", "rotate", "--json"], Props::default()).await;
    let object: serde_json::Value = serde_json::from_str(&seen.out()).expect("one object");
    assert_eq!(
        (&object["phase"], &object["agents_current"]),
        (&"introduced".into(), &1.into())
    );
}

#[tokio::test]
async fn a_request_to_the_fleet_and_its_answer() {
    let stage = Stage::new();
    let seen = stage.run(&["ca", "request"], Props::default()).await;
    assert!(
        seen.out().starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"),
        "{}",
        seen.out()
    );
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("host.pem");
    std::fs::write(&file, "signed").expect("written");
    let file = file.to_str().expect("path");
    let seen = stage.run(&["ca", "install", file], Props::default()).await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert_eq!(asked, ["ca request", "ca install signed"]);
}

fn healthy() -> Status {
    Status {
        version: "0.1.0".into(),
        cp_life: "k3v9".into(),
        started_ms: NOW - 10_800_000,
        state_dir: "/var/lib/clawker".into(),
        engine: "Docker 20.10.24, API 1.41".into(),
        cgroup: "v1, cgroupfs".into(),
        journal_seq: 1234,
        agents: 3,
        sessions: 1,
        subsystems: vec![
            Subsystem {
                name: "docker".into(),
                ..Subsystem::default()
            },
            Subsystem {
                name: "netfilter".into(),
                degraded: true,
                detail: "nf_tables: no such file".into(),
                since_ms: NOW - 125_000,
                hint: "load the module".into(),
            },
        ],
        plugins: vec![PluginView {
            name: "egress-guard".into(),
            version: "0.1.0".into(),
            kind: "policy".into(),
            digest: "d".repeat(64),
            mode: "enforce".into(),
        }],
    }
}

fn event(seq: u64, kind: &str, agent: &str, body: &str) -> Say<EventRow> {
    let row = EventRow {
        seq,
        at_ms: NOW + seq,
        kind: kind.into(),
        agent: agent.into(),
        body: body.into(),
        ..EventRow::default()
    };
    Say::Message(row)
}

#[tokio::test]
async fn events_are_one_line_each() {
    let stage = Stage::new();
    let rows = || {
        vec![
            event(7, "ControlPlaneStarted", "", r#"{"version":"0.1.0","boot_id":"b"}"#),
            event(41, "EgressDenied", "clawker.web.scout", r#"{"count":1,"total":2}"#),
        ]
    };
    stage.fake.with(|scene| scene.events = vec![rows(), rows()]);
    let seen = stage.run(&["events", "--since", "10m"], Props::default()).await;
    assert_snapshot!(seen.out(), @r#"
     7  2026-01-31T09:00:00.007Z  -                 ControlPlaneStarted  version 0.1.0, boot id b
    41  2026-01-31T09:00:00.041Z  web.scout         EgressDenied        count 1, total 2
    "#);
    let seen = stage.run(&["events", "--since", "6", "--json"], Props::default()).await;
    assert_snapshot!(seen.out(), @r#"
    {"agent":"","at_ms":1769850000007,"body":{"boot_id":"b","version":"0.1.0"},"kind":"ControlPlaneStarted","seq":7}
    {"agent":"clawker.web.scout","at_ms":1769850000041,"body":{"count":1,"total":2},"kind":"EgressDenied","seq":41}
    "#);
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert_eq!(
        asked,
        [
            format!("events after=None since=Some({}) \"\"", NOW - 600_000),
            "events after=Some(6) since=None \"\"".to_owned(),
        ]
    );
}

/// A stream of new events that breaks goes on from the last one that was seen.
#[tokio::test]
async fn followed_events_survive_a_cut() {
    let stage = Stage::new();
    let refusal = tonic::Status::permission_denied("enough");
    stage.fake.with(|scene| {
        scene.events = vec![
            vec![event(7, "LeaseLost", "clawker.a", "{}")],
            vec![event(8, "LeaseLost", "clawker.a", "{}"), Say::Fail(refusal)],
        ];
    });
    let seen = stage
        .run(&["events", "--follow", "--since", "1h"], Props::default())
        .await;
    assert_eq!(seen.out().lines().count(), 2, "{}", seen.out());
    assert_eq!(seen.code, 77);
    assert!(
        seen.err
            .starts_with("clawker: the connection to the control plane broke; trying again\n"),
        "{}",
        seen.err
    );
    assert_eq!(
        stage.fake.with(|scene| scene.asked[1].clone()),
        "events after=Some(7) since=None \"\""
    );
}

const HOSTILE: &str = "a\u{1b}[2J\u{9b}31m\u{7}\u{202e}\rb\u{0}\nc";

/// Whatever an agent gets into a name, a reason or an event is not obeyed by the operator's terminal.
#[tokio::test]
async fn a_hostile_agent_does_not_draw_on_the_terminal() {
    let stage = Stage::new();
    let body = serde_json::json!({"reason": HOSTILE, HOSTILE: [HOSTILE]}).to_string();
    stage.fake.with(|scene| {
        let text = || HOSTILE.to_owned();
        scene.agents = vec![AgentView {
            name: text(),
            image: text(),
            status: text(),
            session: text(),
            trust: text(),
            plan: text(),
            containment: text(),
            command: text(),
            ..scout()
        }];
        let cause = WhyCause {
            by: text(),
            action: text(),
            reason: text(),
            event: body.clone(),
            at_ms: 1,
        };
        let plain = WhyCause {
            event: text(),
            ..cause.clone()
        };
        scene.why = WhyResponse {
            agent: text(),
            in_force: text(),
            causes: vec![cause, plain],
            hint: text(),
        };
        scene.events = (0..2)
            .map(|_| vec![event(1, HOSTILE, HOSTILE, &body), event(2, "x", "y", HOSTILE)])
            .collect();
        let mut status = healthy();
        status.engine = text();
        status.subsystems[0].detail = text();
        status.plugins[0].name = text();
        scene.status = status;
    });
    for line in [
        vec!["ps"],
        vec!["ps", "-q"],
        vec!["ps", "--json"],
        vec!["inspect", HOSTILE],
        vec!["inspect", HOSTILE, "--json"],
        vec!["why", "a"],
        vec!["why", "a", "--json"],
        vec!["events"],
        vec!["events", "--json"],
        vec!["status"],
        vec!["status", "--json"],
    ] {
        let seen = stage.run(&line, Props::terminal(80)).await;
        assert_eq!(seen.code, 0, "{line:?}: {}", seen.err);
        let drawn: Vec<char> = seen
            .out()
            .chars()
            .filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}')
            .collect();
        assert!(drawn.is_empty(), "{line:?} let {drawn:?} through");
        assert!(!seen.out().is_empty());
    }
    stage
        .fake
        .with(|scene| scene.refuse = Some(tonic::Status::failed_precondition(HOSTILE)));
    let seen = stage.run(&["ps"], Props::default()).await;
    assert_eq!(seen.err, "error: a[2J31m b c\n");
}

#[tokio::test]
async fn logs_are_untouched() {
    let stage = Stage::new();
    let bytes = [HOSTILE.as_bytes(), b"\xff\n"].concat();
    let logs = [
        LogChunk {
            stderr: false,
            bytes: bytes.clone().into(),
        },
        LogChunk {
            stderr: true,
            bytes: "to stderr\u{1b}[0m\n".into(),
        },
    ];
    stage.fake.with(|scene| scene.logs = logs.to_vec());
    let seen = stage.run(&["logs", "a"], Props::terminal(80)).await;
    assert_eq!(seen.stdout, bytes);
    assert_eq!(seen.err, "to stderr\u{1b}[0m\n");
    stage.fake.with(|scene| scene.logs = logs.to_vec());
    let seen = stage.run(&["logs", "--json", "a"], Props::default()).await;
    assert_snapshot!(seen.out(), @r#"
    {"base64":"YRtbMkrCmzMxbQfigK4NYgAKY/8K","stream":"stdout"}
    {"stream":"stderr","text":"to stderr\u001b[0m\n"}
    "#);
}
