//! An engine elsewhere: the control plane dials, trusts by key and join token, and contains by what Docker can do.

use anyhow::{Context, Result, ensure};
use clawker_tests::elsewhere::Elsewhere;
use clawker_tests::wait::{PATIENCE, until_true};
use clawker_tests::{AgentBuilder, Host, Row, bins};

const COUNTS: &str = "echo started; trap 'echo stopping; exit 0' TERM; while :; do sleep 0.1; done";

fn rows_of(host: &Host, kind: &str) -> Vec<Row> {
    host.events().into_iter().filter(|row| row.kind == kind).collect()
}

#[test]
fn an_agent_elsewhere_is_dialled_trusted_and_runs_what_it_is_told() -> Result<()> {
    let engine = Elsewhere::start()?;
    let host = engine.setup()?.start()?;
    let agent = host.agent("a").script(COUNTS).run().with_context(|| engine.log())?;
    agent.expect_session()?;
    agent.expect_log("started")?;
    let view = agent.view()?;
    ensure!(view["containment"] == "open (reduced)", "{view}");
    ensure!(view["start"] == 1 && view["generation"] == 1, "{view}");
    let connected = host.expect_event("SessionConnected", |row| row.agent == agent.full())?;
    let address = connected.body["address"].as_str().unwrap_or_default().to_owned();
    ensure!(
        address.starts_with("tcp:10.") && address.ends_with(":7117"),
        "{address}"
    );
    let status = host.cli(["status"])?.ok()?.stdout;
    ensure!(
        status.contains(&format!("{}, containment reduced", engine.address())),
        "{status}"
    );

    let ran = agent.exec(["sh", "-c", "echo out; echo err >&2; exit 3"])?;
    ensure!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()) == (3, "out\n", "err\n"),
        "{ran:?}"
    );
    let ran = host.agent("b").script("echo done; exit 7").run_to_end()?;
    ensure!(ran.code == 7 && ran.stdout.contains("done"), "{ran:?}");

    // The join file was gone before anything of the user's ran, and nothing of it is anywhere else.
    let listed = agent.exec_as_root(["ls", "-A", "/.clawker"])?.ok()?.stdout;
    ensure!(listed.trim() == "clawkerd", "{listed}");
    let inspected = agent.inspect()?;
    ensure!(inspected["Mounts"].as_array().is_none_or(Vec::is_empty), "{inspected}");
    let untrusted = rows_of(&host, "AgentUntrusted");
    ensure!(untrusted.is_empty(), "{untrusted:?}");
    Ok(())
}

/// Where the containers' network can't be reached, their port is published on the engine's host.
#[test]
fn an_agent_elsewhere_is_reached_by_its_published_port() -> Result<()> {
    let engine = Elsewhere::start()?;
    let host = engine.setup_published()?.start()?;
    let agent = host.agent("a").script(COUNTS).run().with_context(|| engine.log())?;
    agent.expect_session()?;
    let connected = host.expect_event("SessionConnected", |row| row.agent == agent.full())?;
    let address = connected.body["address"].as_str().unwrap_or_default();
    ensure!(!address.ends_with(":7117"), "{address}");
    // Docker's proxy accepts before PID 1 does, also when it waits for its join file.
    host.docker.restart(&agent.container()?, 5)?;
    agent.expect("start", |view| view["start"] == 2 && view["trust"] == "trusted")?;
    let ran = agent.exec(["sh", "-c", "exit 3"])?;
    ensure!(ran.code == 3, "{ran:?}");
    Ok(())
}

#[test]
fn each_start_elsewhere_has_its_own_identity_and_the_agent_keeps_one_row() -> Result<()> {
    let engine = Elsewhere::start()?;
    let mut host = engine.setup()?.start()?;
    {
        let agent = host.agent("a").script(COUNTS).run().with_context(|| engine.log())?;
        agent.expect_session()?;
        let container = agent.container()?;
        let runs = |start: usize| -> Result<()> {
            agent.expect("start", |view| view["start"] == start && view["trust"] == "trusted")?;
            until_true("its command to run", PATIENCE, || {
                Ok(agent.times_printed("started")? == start)
            })
        };
        runs(1)?;
        // By clawker, and behind its back: then its PID 1 waits until it is given a join file.
        host.cli(["restart", &agent.short()])?.ok()?;
        runs(2)?;
        host.docker.restart(&container, 5)?;
        runs(3)?;
        let view = agent.view()?;
        ensure!(view["generation"] == 3 && view["registered"] == true, "{view}");
        ensure!(host.ps()?.len() == 1, "{:?}", host.ps()?);
        let listed = agent.exec_as_root(["ls", "-A", "/.clawker"])?.ok()?.stdout;
        ensure!(listed.trim() == "clawkerd", "{listed}");
    }

    // A control plane that comes back finds the session by itself, with the identity that is there.
    host.kill_control_plane()?;
    host.restart_control_plane()?;
    let agent = host.existing("a");
    agent.expect_session()?;
    let view = agent.view()?;
    ensure!(view["start"] == 3 && view["generation"] == 3, "{view}");
    let untrusted = rows_of(&host, "AgentUntrusted");
    ensure!(untrusted.is_empty(), "{untrusted:?}");
    Ok(())
}

#[test]
fn leaves_elsewhere_are_renewed_over_the_session_and_shown_in_the_next_handshake() -> Result<()> {
    let engine = Elsewhere::start()?;
    let setup = engine.setup()?.config_tables("[identity]\nleaf_seconds = 12\n");
    let mut host = setup.start()?;
    let rotations = {
        let agent = host.agent("a").script(COUNTS).run().with_context(|| engine.log())?;
        agent.expect_session()?;
        until_true("two renewals", PATIENCE, || {
            Ok(rows_of(&host, "IdentityRotated").len() >= 2)
        })?;
        agent.exec(["true"])?.ok()?;
        rows_of(&host, "IdentityRotated").len()
    };
    host.kill_control_plane()?;
    host.restart_control_plane()?;
    let agent = host.existing("a");
    agent.expect_session()?;
    host.expect_event("IdentityConfirmed", |row| row.agent == agent.full())?;
    let view = agent.view()?;
    ensure!(
        view["start"] == 1 && view["generation"] == 1 && rotations >= 2,
        "{view}"
    );
    let untrusted = rows_of(&host, "AgentUntrusted");
    ensure!(untrusted.is_empty(), "{untrusted:?}");
    Ok(())
}

#[test]
fn containment_elsewhere_is_dockers_and_read_back() -> Result<()> {
    let engine = Elsewhere::start()?;
    let host = engine.setup()?.start()?;
    let agent = host.agent("a").script(COUNTS).run().with_context(|| engine.log())?;
    agent.expect_session()?;

    let done = agent.contain("freeze")?;
    ensure!(done["in_force"] == "open, frozen (reduced)", "{done}");
    ensure!(
        agent.inspect()?["State"]["Status"] == "paused",
        "{:?}",
        agent.inspect()?
    );
    agent.release()?;
    ensure!(
        agent.inspect()?["State"]["Status"] == "running",
        "{:?}",
        agent.inspect()?
    );
    agent.expect_session()?;
    agent.exec(["true"])?.ok()?;

    let done = agent.contain("lock-network")?;
    ensure!(done["in_force"] == "locked (reduced)", "{done}");
    let networks = agent.inspect()?["NetworkSettings"]["Networks"].clone();
    ensure!(networks.as_object().is_none_or(serde_json::Map::is_empty), "{networks}");
    // Without a network there is no session, and nobody heals that before it is released.
    agent.expect("session", |view| view["session"] != "connected")?;
    agent.expect_containment("locked (reduced)")?;
    agent.exec(["true"])?.failed(1, "")?;
    agent.release()?;
    agent.expect_containment("open (reduced)")?;
    agent.expect_session()?;
    agent.exec(["true"])?.ok()?;

    let refused = host.cli(["contain", &agent.short(), "restrict-egress", "--allow", "192.0.2.1:443"])?;
    refused.failed(1, "containment is reduced")?;
    let done = agent.contain("kill")?;
    ensure!(
        done["in_force"].as_str().is_some_and(|text| text.contains("killed")),
        "{done}"
    );
    ensure!(agent.inspect()?["State"]["Running"] == false, "{:?}", agent.inspect()?);
    agent.expect_exited(137)
}

#[test]
fn what_needs_the_kernel_or_this_hosts_files_is_refused_elsewhere() -> Result<()> {
    let engine = Elsewhere::start()?;
    let host = engine.setup()?.start()?;
    let image = host.busybox()?;
    for (options, code, said) in [
        (
            vec!["--egress", "192.0.2.1:443"],
            73,
            "`--egress` can't be put in force",
        ),
        (vec!["--network", "none"], 73, "without a network can't be reached"),
        (
            vec!["--on-absent", "defaults:5", "--unverified-network"],
            73,
            "before anybody has joined it",
        ),
        (
            vec!["--volume", "/tmp:/work"],
            73,
            "a path of this host, and the engine is elsewhere",
        ),
    ] {
        let head = ["run", "--detach", "--project", host.project(), "--name", "a"];
        let args: Vec<&str> = head.into_iter().chain(options).chain([image.as_str()]).collect();
        host.cli(args)?.failed(code, said)?;
    }
    ensure!(host.ps()?.is_empty(), "{:?}", host.ps()?);
    Ok(())
}

/// A container whose PID 1 isn't quite ours: it keeps its join file and may be given another.
const KEEPS: &str = "#!/bin/sh\nme=${HOSTNAME##*.}\nuntil [ -e /.clawker/join ]; do sleep 0.05; done\n\
    if [ -e /keep/$me.as ]; then cp /keep/$(cat /keep/$me.as).join /.clawker/join; fi\n\
    if [ -e /keep/$me.spoilt ]; then size=$(wc -c < /.clawker/join); \
    head -c $((size - 43)) /.clawker/join > /keep/new; printf '%043d' 0 >> /keep/new; cp /keep/new /.clawker/join; fi\n\
    cp /.clawker/join /keep/$me.join\nexec /clawkerd.real \"$@\"\n";

fn keeper<'h>(host: &'h Host, image: &str, name: &str) -> AgentBuilder<'h> {
    host.agent(name)
        .image(image)
        .option(["--volume", "keep:/keep"])
        .script(COUNTS)
}

#[test]
fn a_wrong_join_token_and_another_containers_leaf_are_refused() -> Result<()> {
    let engine = Elsewhere::start()?;
    let host = engine.setup()?.config("policies = []\n").wrapped(KEEPS).start()?;
    let clawkerd = std::fs::read(bins::libexec()?.join("agent/clawkerd"))?;
    let recipe = host.busybox_recipe()?.with_file("clawkerd.real", 0o755, &clawkerd);
    let image = recipe.make(&host.docker)?;
    let victim = keeper(&host, &image, "victim").run().with_context(|| engine.log())?;
    victim.expect_session()?;

    // The others play with what they are given.
    let orders = "echo victim > /keep/thief.as; touch /keep/spoiler.spoilt";
    victim.exec_as_root(["sh", "-c", orders])?.ok()?;
    for name in ["thief", "spoiler"] {
        let agent = keeper(&host, &image, name).tries()?;
        agent.expect("trust", |view| view["trust"] != "trusted" && view["trust"] != "unknown")?;
        let ran = agent.exec(["true"])?;
        ensure!(ran.code != 0, "{ran:?}");
    }
    let thief = host.expect_event("AgentUntrusted", |row| row.agent.ends_with(".thief"))?;
    ensure!(
        thief.body["reason"] == "cn_mismatch" || thief.body["reason"] == "san_mismatch",
        "{thief:?}"
    );
    // Its key was proven by somebody else: it is nobody's any more.
    host.expect_event("IdentityLeaked", |row| row.agent == victim.full())?;
    let spoiler = host.expect_event("AgentUntrusted", |row| row.agent.ends_with(".spoiler"))?;
    ensure!(spoiler.body["reason"] == "register_failed", "{spoiler:?}");
    let detail = spoiler.body["detail"].as_str().unwrap_or_default();
    ensure!(
        detail.contains("the join token isn't the one of this start"),
        "{spoiler:?}"
    );
    // The rightful holder's next start brings another.
    host.cli(["restart", &victim.short()])?.ok()?;
    victim.expect("start", |view| view["start"] == 2 && view["trust"] == "trusted")?;
    let rows = rows_of(&host, "RegistryRowWritten");
    ensure!(rows.iter().all(|row| row.agent == victim.full()), "{rows:?}");
    Ok(())
}
