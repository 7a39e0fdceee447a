//! The built-in steps on real containers, and plans that are cut, slow or failing.

use anyhow::{Context as _, Result, ensure};
use clawker_tests::Host;
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, until_true};

const SECRET: &str = "s3cr3t/of the@test";

/// Writes the project's file; its path.
pub fn project(host: &Host, agents: &str) -> Result<String> {
    let path = host.shared_dir().join("clawker.yaml");
    let image = host.busybox()?;
    let text = format!(
        "project: {}\nagents:\n{}",
        host.project(),
        agents.replace("IMAGE", &image)
    );
    std::fs::write(&path, text).context("writing a project's file")?;
    Ok(path.display().to_string())
}

const ALL_STEPS: &str = r#"
  a:
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    secrets:
      TOKEN: {file: token, as: step}
    steps:
      - plugin: pre-run
        settings: {script: "echo run >>~/runs"}
      - plugin: config
        settings:
          files:
            - {path: ~/.seeded, content: "seeded\n"}
            - {path: /etc/passwd, content: "never\n"}
            - {path: ~/.config/tool/settings.json, json: {theme: dark, nested: {a: 1}}}
      - plugin: git
        settings:
          config: |
            [user]
              name = Ada
            [core]
              sshCommand = evil
          safe_directories: [/work]
      - plugin: git-credentials
        settings: {credentials: [{host: git.example.org, secret: TOKEN}]}
      - plugin: ssh
        settings: {known_hosts: [git.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5]}
      - plugin: post-init
        settings: {script: "id -u >>~/inits; cat >/dev/null", secret: TOKEN}
"#;

#[test]
fn the_built_in_steps_prepare_a_container_and_do_it_again() -> Result<()> {
    let host = Host::start()?;
    std::fs::write(host.shared_dir().join("token"), SECRET)?;
    let file = project(&host, ALL_STEPS)?;
    let said = host.cli(["apply", "-f", &file])?.ok()?.stdout;
    ensure!(said.contains("created, started"), "{said}");
    let agent = host.existing("a");
    agent.expect_session()?;
    let read = |path: &str| -> Result<String> { Ok(agent.exec(["cat", path])?.ok()?.stdout) };
    ensure!(read("/home/agent/.seeded")? == "seeded\n");
    ensure!(
        read("/etc/passwd")?.contains("root:x:0:0"),
        "a file that was there was replaced"
    );
    let json: serde_json::Value = serde_json::from_str(&read("/home/agent/.config/tool/settings.json")?)?;
    ensure!(
        json == serde_json::json!({"theme": "dark", "nested": {"a": 1}}),
        "{json}"
    );
    let git = read("/home/agent/.config/clawker/gitconfig")?;
    ensure!(
        git.contains("name = \"Ada\"") && git.contains("directory = \"/work\"") && !git.contains("evil"),
        "{git}"
    );
    ensure!(read("/home/agent/.gitconfig")?.contains("path = ~/.config/clawker/gitconfig\n"));
    let store = read("/home/agent/.config/clawker/git-credentials")?;
    ensure!(
        store == "https://x-access-token:s3cr3t%2Fof%20the%40test@git.example.org\n",
        "{store}"
    );
    ensure!(read("/home/agent/.ssh/known_hosts")?.starts_with("git.example.org ssh-ed25519"));
    for (path, mode) in [
        ("/home/agent/.ssh", "700"),
        ("/home/agent/.ssh/known_hosts", "600"),
        ("/home/agent/.config/clawker/git-credentials", "600"),
        ("/home/agent/.config/tool", "700"),
    ] {
        let stat = agent.exec(["stat", "-c", "%a %U", path])?.ok()?.stdout;
        ensure!(stat == format!("{mode} agent\n"), "{path}: {stat}");
    }
    ensure!(read("/home/agent/inits")? == "1000\n" && read("/home/agent/runs")? == "run\n");

    // What stays is done once, and what is of each start again.
    let steps = || -> Vec<String> {
        let rows = host.events().into_iter().filter(|row| row.kind == "InitStepCompleted");
        rows.filter_map(|row| row.body["name"].as_str().map(str::to_owned))
            .collect()
    };
    let once = ["config", "git", "git-credentials", "ssh", "post-init"];
    ensure!(steps().iter().skip(1).take(5).eq(once), "{:?}", steps());
    ensure!(steps().len() == 7 && steps()[6] == "pre-run", "{:?}", steps());
    host.cli(["restart", "--timeout", "2", &agent.short()])?.ok()?;
    agent.expect_session()?;
    until_true("the second start's plan", PATIENCE, || Ok(steps().len() == 9))?;
    ensure!(steps()[7..] == ["welcome", "pre-run"], "{:?}", steps());
    ensure!(read("/home/agent/inits")? == "1000\n" && read("/home/agent/runs")? == "run\nrun\n");

    let said = host.cli(["apply", "-f", &file])?.ok()?.stdout;
    ensure!(said.ends_with(": unchanged\n"), "{said}");
    Ok(())
}

/// Not in the journal, the log, the container's configuration or the state folder but where secrets are kept.
#[test]
fn a_steps_secret_is_nowhere_but_where_it_was_put() -> Result<()> {
    let mut host = Host::start()?;
    std::fs::write(host.shared_dir().join("token"), SECRET)?;
    let agents = r#"
  a:
    image: IMAGE
    command: [sh, -c, "env; trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    secrets: {TOKEN: {file: token, as: step}}
    steps:
      - plugin: git-credentials
        settings: {credentials: [{host: git.example.org, secret: TOKEN}]}
      - plugin: post-init
        on_failure: continue
        settings: {script: "read t; echo \"out $t\"; echo \"err $t\" >&2; exit 3", secret: TOKEN}
      - plugin: config
        on_failure: continue
        settings: {files: [{path: ~/copy, from: ~/.config/clawker/git-credentials}]}
"#;
    let file = project(&host, agents)?;
    host.cli(["apply", "-f", &file])?.ok()?;
    let agent = host.existing("a");
    agent.expect_session()?;
    let failed = host.expect_event("InitStepFailed", |row| row.body["name"] == "post-init")?;
    let detail = failed.body["detail"].to_string();
    ensure!(
        failed.body["reason"] == "exit_nonzero" && detail.contains("err [secret TOKEN]"),
        "{failed:?}"
    );
    // A step may put a secret into a file, and not read it there.
    let denied = host.expect_event("InitStepFailed", |row| row.body["name"] == "config")?;
    ensure!(
        denied.body["detail"].to_string().contains("holds secret `TOKEN`"),
        "{denied:?}"
    );
    agent.expect("command", |view| view["plan"] == "done")?;
    let logs = agent.logs()?;
    ensure!(
        !logs.contains("TOKEN") && !logs.contains("s3cr3t"),
        "the command got it: {logs}"
    );
    ensure!(!agent.inspect()?.to_string().contains("s3cr3t"));
    let container = agent.container()?;
    host.stop_control_plane()?;

    let needles = [SECRET.as_bytes().to_vec(), b"s3cr3t%2Fof%20the%40test".to_vec()];
    let kept = host.state_dir().join("secrets").join(container).join("TOKEN");
    ensure!(std::fs::read(&kept)? == SECRET.as_bytes());
    let mut looked_at = 0;
    for path in files(host.state_dir())?.into_iter().chain([host.log_file()]) {
        if path == kept {
            continue;
        }
        let bytes = std::fs::read(&path)?;
        looked_at += 1;
        for needle in &needles {
            let found = bytes.windows(needle.len()).any(|window| window == needle.as_slice());
            ensure!(!found, "it is in {}", path.display());
        }
    }
    ensure!(looked_at >= 3, "only {looked_at} files were there to look at");
    Ok(())
}

fn files(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A step that waits for a file in the shared folder, if the agent's environment says so.
const SLOW: &str = "[[plan]]\nplugin = \"welcome\"\n[plan.settings]\ncommand = [\"sh\", \"-c\", \
    \"test -z \\\"$SLOW\\\" || { echo once >>/work/slow; until [ -e /shared/go ]; do sleep 0.1; done; }\"]\n";

#[test]
fn one_agents_slow_step_delays_no_other() -> Result<()> {
    let host = Setup::test()?.config(SLOW).start()?;
    let running = host
        .agent("a")
        .shared()
        .option(["--env", "SLOW=1"])
        .script("echo slow one runs")
        .run_in_background()?
        .1;
    let slow = host.existing("a").full();
    host.expect_event("InitStepStarted", |row| row.agent == slow)?;
    for name in ["b", "c"] {
        let ran = host.agent(name).script("echo ran").run_to_end()?.ok()?;
        ensure!(ran.stdout == "ran\n", "{ran:?}");
    }
    let over = |row: &clawker_tests::events::Row| row.agent == slow && row.kind == "InitCompleted";
    ensure!(!host.events().iter().any(over), "the slow one was not slow");
    std::fs::write(host.shared_dir().join("go"), "")?;
    running.finish(PATIENCE)?.ok()?;
    host.existing("a").expect_log("slow one runs")
}

/// The session is cut while a step's command runs; the next one hears how that very command ended.
#[test]
fn a_step_that_is_cut_goes_on_where_it_was() -> Result<()> {
    let mut host = Setup::test()?.config(SLOW).start()?;
    let image = host.busybox()?;
    let running = host
        .agent("a")
        .image(&image)
        .shared()
        .option(["--env", "SLOW=1"])
        .script("cat /work/slow; exit 7")
        .run_in_background()?
        .1;
    host.expect_event("InitEffectIntended", |row| row.body["n"] == 1)?;
    for _ in 0..2 {
        host.kill_control_plane()?;
        host.restart_control_plane()?;
        let agent = host.existing("a");
        agent.expect("session", |view| view["session"] == "connected")?;
        // And once without a new control plane.
        let half = agent.session_half()?;
        let pid = rustix::process::Pid::from_raw(half).context("a pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        until_true("another session half", PATIENCE, || Ok(agent.session_half()? != half))?;
        agent.expect("session", |view| view["session"] == "connected")?;
    }
    std::fs::write(host.shared_dir().join("go"), "")?;
    drop(running.finish(PATIENCE)?);
    let agent = host.existing("a");
    agent.expect_exited(7)?;
    ensure!(
        agent.times_printed("once")? == 1,
        "the step's command ran again: {}",
        agent.logs()?
    );
    let failed = host.events().into_iter().find(|row| row.kind.ends_with("Failed"));
    ensure!(failed.is_none(), "{failed:?}");
    Ok(())
}

#[test]
fn a_container_that_ends_in_mid_step_lost_its_plan_for_this_start_alone() -> Result<()> {
    let host = Setup::test()?.config(SLOW).start()?;
    let running = host
        .agent("a")
        .shared()
        .option(["--env", "SLOW=1"])
        .script("trap 'exit 0' TERM; while :; do sleep 0.1; done")
        .run_in_background()?
        .1;
    host.expect_event("InitEffectIntended", |row| row.body["n"] == 1)?;
    let agent = host.existing("a");
    host.docker.stop(&agent.container()?, 1)?;
    let failed = host.expect_event("InitFailed", |row| row.agent == agent.full())?;
    ensure!(
        failed.body["reason"] == "session_lost" && failed.body["step"] == "welcome",
        "{failed:?}"
    );
    running.finish(PATIENCE)?.failed(125, "session_lost")?;
    std::fs::write(host.shared_dir().join("go"), "")?;
    host.cli(["start", &agent.short()])?.ok()?;
    agent.expect("plan", |view| view["plan"] == "done" && view["start"] == 2)
}

#[test]
fn a_step_whose_time_is_over_is_ended_and_may_be_passed_over() -> Result<()> {
    let host = Host::start()?;
    let agents = r#"
  a:
    image: IMAGE
    command: [sh, -c, "ps >/work/ps; trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    steps:
      - plugin: pre-run
        timeout: 1
        on_failure: continue
        settings: {script: "sleep 1000; true"}
      - plugin: post-init
        on_failure: continue
        settings: {script: "sleep 1001; true", timeout: 1}
"#;
    host.cli(["apply", "-f", &project(&host, agents)?])?.ok()?;
    for step in ["post-init", "pre-run"] {
        let failed = host.expect_event("InitStepFailed", |row| row.body["name"] == step)?;
        ensure!(failed.body["reason"] == "timeout", "{failed:?}");
    }
    let agent = host.existing("a");
    agent.expect("plan", |view| view["plan"] == "done")?;
    let seen = agent.exec(["cat", "/work/ps"])?.ok()?.stdout;
    ensure!(!seen.contains("sleep 100"), "it still runs beside the command:\n{seen}");
    Ok(())
}

#[test]
fn a_program_that_a_step_does_not_find_is_start_failed() -> Result<()> {
    let config = "[[plan]]\nplugin = \"welcome\"\n[plan.settings]\ncommand = [\"/no/such/program\"]\n";
    let host = Setup::test()?.config(config).start()?;
    host.agent("a").run_to_end()?.failed(125, "start_failed")?;
    let failed = host.expect_event("InitFailed", |_| true)?;
    ensure!(failed.body["reason"] == "start_failed", "{failed:?}");
    Ok(())
}

#[test]
fn a_once_step_that_failed_is_tried_again_by_the_next_start() -> Result<()> {
    let host = Host::start()?;
    let agents = r#"
  a:
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    mounts: [".:/shared"]
    steps:
      - plugin: post-init
        settings: {script: "test -e /shared/go"}
"#;
    let file = project(&host, agents)?;
    host.cli(["apply", "-f", &file])?.failed(125, "post-init")?;
    let agent = host.existing("a");
    agent.expect("plan", |view| view["plan"] == "failed: post-init")?;
    std::fs::write(host.shared_dir().join("go"), "")?;
    host.cli(["restart", "--timeout", "1", &agent.short()])?.ok()?;
    agent.expect("plan", |view| view["plan"] == "done")
}
