//! `clawker check` and `clawker apply`, the published schema, and the document's example.

use clawker_wire::admin::{AgentView, PlanProgress, Ready, StartProgress, start_progress};
use tonic::Status;

use crate::fake::Say;
use crate::stage::{Props, Stage};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

/// The first block of YAML in docs/steps.md.
fn example() -> String {
    let page = std::fs::read_to_string(format!("{DOCS}/steps.md")).expect("docs/steps.md");
    let (_, rest) = page.split_once("```yaml\n").expect("an example");
    rest.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn the_schema_is_up_to_date() {
    let path = format!("{DOCS}/clawker.schema.json");
    let made = clawker_cli::project::schema();
    if std::env::var_os("CLAWKER_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the schema is written");
    }
    let kept = std::fs::read_to_string(&path).expect("docs/clawker.schema.json");
    assert!(
        kept == made,
        "docs/clawker.schema.json is stale: CLAWKER_BLESS=1 cargo test -p clawker-cli"
    );
}

#[tokio::test]
async fn the_documents_example_is_understood() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("work")).expect("made");
    let file = dir.path().join("clawker.yaml");
    std::fs::write(&file, example()).expect("written");
    let stage = Stage::new();
    let seen = stage
        .run(
            &["check", "-f", file.to_str().expect("UTF-8")],
            Props {
                vars: [("HOME".to_owned(), "/home/ada".to_owned())].into(),
                ..Props::default()
            },
        )
        .await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let folder = dir.path().canonicalize().expect("there");
    let out = seen
        .out()
        .replace(&folder.display().to_string(), "DIR")
        .replace(&dir.path().display().to_string(), "DIR");
    for said in [
        "web.scout: runs `my-agent --serve` in my-agent:1 as agent\n",
        "  may connect to 192.0.2.7:443 alone\n",
        "  reads and writes DIR/work as /work\n",
        "  its command gets, as a variable, the secret API_KEY from DIR/./api-key\n",
        "  its steps get the secret FORGE from /home/ada/.forge-token\n",
        "  is prepared by post-init, once, or its command doesn't run\n",
        "  is prepared by pre-run, at each start\n",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
}

async fn apply(stage: &Stage, text: &str, more: &[&str]) -> crate::stage::Outcome {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("clawker.yaml");
    std::fs::write(&file, text).expect("written");
    std::fs::write(dir.path().join("token"), "s3cret").expect("written");
    let file = file.to_str().expect("UTF-8").to_owned();
    let line: Vec<&str> = ["apply", "-f", &file].into_iter().chain(more.iter().copied()).collect();
    let mut seen = stage.run(&line, Props::default()).await;
    seen.err = seen.err.replace(&file, "FILE");
    seen
}

const ONE: &str = "project: web\nagents:\n  scout:\n    image: img\n    secrets: {T: {file: token, as: step}}\n    \
                   steps: [{plugin: git, when: start, timeout: 9, settings: {config: x}}]\n";

#[tokio::test]
async fn a_file_becomes_requests() {
    let stage = Stage::new();
    stage.fake.with(|scene| {
        scene.agents = vec![AgentView {
            name: "clawker.web.scout".into(),
            status: "created".into(),
            ..Default::default()
        }];
        let message = |body| Say::Message(StartProgress { body: Some(body) });
        scene.start = vec![vec![
            message(start_progress::Body::Step(PlanProgress::default())),
            message(start_progress::Body::Ready(Ready { pid: 1 })),
        ]];
    });
    let seen = apply(&stage, ONE, &[]).await;
    assert_eq!(
        (seen.code, seen.out().as_str()),
        (0, "web.scout: created, started\n"),
        "{}",
        seen.err
    );
    let created = stage.fake.with(|scene| scene.created.take()).expect("created");
    assert_eq!((created.project.as_str(), created.agent.as_str()), ("web", "scout"));
    assert!(created.from_project);
    let secret = &created.secrets[0];
    assert_eq!((secret.step_only, secret.content.as_ref()), (true, b"s3cret".as_ref()));
    let step = &created.steps[0];
    assert_eq!(
        (
            step.plugin.as_str(),
            step.settings.as_str(),
            step.when.as_str(),
            step.timeout
        ),
        ("git", r#"{"config":"x"}"#, "start", 9)
    );
}

#[tokio::test]
async fn an_agent_that_differs_is_left_unless_it_is_to_be_replaced() {
    let stage = Stage::new();
    let refusal = Status::already_exists("agent `clawker.web.scout` is there and differs in: env");
    stage.fake.with(|scene| scene.refuse = Some(refusal));
    let seen = apply(&stage, ONE, &[]).await;
    assert_eq!(seen.code, 73);
    assert!(seen.err.contains("differs in: env"), "{}", seen.err);
    let asked = stage.fake.with(|scene| scene.asked.clone());
    assert!(!asked.iter().any(|asked| asked.contains("remove")), "{asked:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_said_before_anything_is_made() {
    let stage = Stage::new();
    for (text, says) in [
        ("agents:\n  a:\n    image: x\n    imgae: y\n", "imgae"),
        ("agents:\n  A:\n    image: x\n", "agents.A"),
        ("project: a_b\nagents: {}\n", "project"),
        (
            "agents:\n  a:\n    image: x\n    egress: [example.org:1]\n",
            "agents.a.egress",
        ),
        (
            "agents:\n  a:\n    image: x\n    egress: [open, '192.0.2.7:1']\n",
            "agents.a.egress",
        ),
        (
            "agents:\n  a:\n    image: x\n    resources: {memory: much}\n",
            "agents.a.resources.memory",
        ),
        (
            "agents:\n  a:\n    image: x\n    resources: {pids: 0}\n",
            "agents.a.resources.pids",
        ),
        (
            "agents:\n  a:\n    image: x\n    mounts: ['work:x']\n",
            "agents.a.mounts",
        ),
        (
            "agents:\n  a:\n    image: x\n    mounts: ['./nowhere:/x']\n",
            "agents.a.mounts",
        ),
        (
            "agents:\n  a:\n    image: x\n    publish: ['http']\n",
            "agents.a.publish",
        ),
        (
            "agents:\n  a:\n    image: x\n    secrets: {a-b: {file: token}}\n",
            "agents.a.secrets",
        ),
        ("agents:\n  a:\n    image: ''\n", "agents.a.image"),
    ] {
        let seen = apply(&stage, text, &[]).await;
        assert_eq!(seen.code, 78, "{text}: {}", seen.err);
        assert!(seen.err.contains(says), "{text}: {}", seen.err);
    }
    let seen = apply(&stage, ONE, &["nobody"]).await;
    assert!(seen.code == 78 && seen.err.contains("there are: scout"), "{}", seen.err);
    let absent = "agents:\n  a:\n    image: x\n    secrets: {A: {file: absent}}\n";
    assert_eq!(apply(&stage, absent, &[]).await.code, 66);
    assert_eq!(
        stage.fake.with(|scene| scene.asked.clone()),
        [""; 0],
        "nobody was asked for anything"
    );
}
