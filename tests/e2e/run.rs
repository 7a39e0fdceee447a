//! `clawker run` and what follows: exit codes, images, names, many at once.

use anyhow::{Result, ensure};
use clawker_tests::host::Setup;
use clawker_tests::wait::{PATIENCE, throughout, until_true};
use clawker_tests::{Host, Image};
use std::time::Duration;

#[test]
fn the_commands_exit_code_is_that_of_run() -> Result<()> {
    let host = Host::start()?;
    let ran = host.agent("a").script("echo out; echo err >&2; exit 7").run_to_end()?;
    ensure!(ran.code == 7, "{ran:?}");
    ensure!(ran.stdout == "out\n", "{ran:?}");
    ensure!(ran.stderr.contains("err\n"), "{ran:?}");
    ensure!(host.existing("a").wait_exit()? == 7);
    host.existing("a").expect_exited(7)
}

#[test]
fn a_signal_that_ends_the_command_is_its_exit_code() -> Result<()> {
    let host = Host::start()?;
    let ran = host.agent("a").script("kill -KILL $$").run_to_end()?;
    ensure!(ran.code == 137, "{ran:?}");
    Ok(())
}

#[test]
fn a_command_that_does_not_exist_is_127() -> Result<()> {
    let host = Host::start()?;
    host.agent("a")
        .command(["/no/such/program"])
        .run_to_end()?
        .failed(127, "/no/such/program")?;
    host.agent("b")
        .command(["/etc/passwd"])
        .run_to_end()?
        .failed(126, "/etc/passwd")
        .map(drop)
}

#[test]
fn an_image_from_scratch_works() -> Result<()> {
    let host = Host::start()?;
    let image = Image::scratch("clawker-test-scratch")?.make(&host.docker)?;
    let ran = host
        .agent("a")
        .image(&image)
        .command([
            "/busybox",
            "sh",
            "-c",
            "echo \"$0 in $PWD as $(/busybox id -u)\"; exit 7",
        ])
        .run_to_end()?;
    ensure!(ran.code == 7, "{ran:?}");
    ensure!(ran.stdout == "sh in / as 0\n", "{ran:?}");
    Ok(())
}

#[test]
fn an_agent_runs_as_its_images_user_without_new_privileges() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    let status = agent.exec(["cat", "/proc/self/status"])?.ok()?.stdout;
    for line in [
        "Uid:\t1000\t1000\t1000\t1000",
        "Gid:\t1000\t1000\t1000\t1000",
        "NoNewPrivs:\t1",
    ] {
        ensure!(status.contains(line), "no {line:?} in\n{status}");
    }
    let main = agent
        .processes()?
        .into_iter()
        .find(|process| process.command.starts_with("sh -c"));
    let main = main
        .map(|main| std::fs::read_to_string(format!("/proc/{}/status", main.pid)))
        .transpose()?;
    ensure!(main.is_some_and(|main| main.contains("NoNewPrivs:\t1") && main.contains("Uid:\t1000\t")));
    Ok(())
}

#[test]
fn a_secret_reaches_the_command_alone() -> Result<()> {
    let host = Host::start()?;
    let secret = host.shared_dir().join("token");
    std::fs::write(&secret, "s3cr3t-of-the-test")?;
    let agent = host
        .agent("a")
        .option(["--secret", &format!("TOKEN={}", secret.display())])
        .script("echo \"it is $TOKEN\"; while :; do sleep 1; done")
        .run()?;
    agent.expect_log("it is s3cr3t-of-the-test")?;
    let inspected = agent.inspect()?.to_string();
    ensure!(
        !inspected.contains("s3cr3t-of-the-test"),
        "it is in the container's configuration"
    );
    let journaled = host
        .events()
        .iter()
        .any(|row| row.body.to_string().contains("s3cr3t-of-the-test"));
    ensure!(!journaled, "it is in the journal");
    let init = agent.init_pid()?;
    let seen = std::fs::read(format!("/proc/{init}/environ"))?;
    ensure!(
        !String::from_utf8_lossy(&seen).contains("s3cr3t"),
        "it is in PID 1's environment"
    );
    Ok(())
}

#[test]
fn twenty_agents_at_once() -> Result<()> {
    let host = Host::start()?;
    host.busybox()?;
    let names: Vec<String> = (0..20).map(|n| format!("a{n}")).collect();
    let mut running = Vec::new();
    for name in &names {
        running.push(
            host.agent(name)
                .script("echo started; while :; do sleep 1; done")
                .run_in_background()?,
        );
    }
    for (_, running) in running {
        running.finish(PATIENCE)?.ok()?;
    }
    for name in &names {
        let agent = host.existing(name);
        agent.expect_session()?;
        agent.expect_log("started")?;
        ensure!(
            agent.times_printed("started")? == 1,
            "{name} was started more than once"
        );
    }
    ensure!(host.ps()?.len() == 20);
    let short: Vec<String> = names.iter().map(|name| host.existing(name).short()).collect();
    host.cli(["rm", "--force"].iter().map(|s| (*s).to_owned()).chain(short))?
        .ok()?;
    until_true("all to be gone", PATIENCE, || Ok(host.ps()?.is_empty()))
}

#[test]
fn a_fork_happy_agent_leaves_no_zombies() -> Result<()> {
    let host = Host::start()?;
    // Orphans: the inner shell ends before what it started, so PID 1 inherits it.
    let agent = host
        .agent("a")
        .script("while :; do sh -c 'true & true & sleep 0.01 & true'; done")
        .run()?;
    let zombies = || -> Result<Vec<i32>> {
        Ok(agent
            .processes()?
            .into_iter()
            .filter(|process| process.zombie)
            .map(|process| process.pid)
            .collect())
    };
    // One may be seen in the moment before it is reaped; none may stay.
    for _ in 0..20 {
        let first = zombies()?;
        until_true("zombies to be reaped", Duration::from_secs(5), || {
            let now = zombies()?;
            Ok(!first.iter().any(|pid| now.contains(pid)))
        })?;
    }
    until_true("two successive samples without a zombie", PATIENCE, || {
        Ok(zombies()?.is_empty() && zombies()?.is_empty())
    })
}

#[test]
fn no_such_image() -> Result<()> {
    let host = Host::start()?;
    let ran = host.agent("a").image("clawker-test/no-such-image:never").run_to_end()?;
    ran.failed(66, "clawker-test/no-such-image:never")?;
    ensure!(host.ps()?.is_empty(), "something half done is left");
    ensure!(
        host.docker
            .containers(&format!("{}.managed", host.prefix()))?
            .is_empty()
    );
    Ok(())
}

#[test]
fn a_malformed_name() -> Result<()> {
    let host = Host::start()?;
    let image = host.busybox()?;
    for (name, said) in [
        ("Upper", "Upper"),
        ("a_b", "a_b"),
        ("-a", "-a"),
        (&"x".repeat(25), "24"),
    ] {
        let name = format!("--name={name}");
        host.cli(["run", &name, &image, "--", "true"])?.failed(2, said)?;
    }
    ensure!(host.ps()?.is_empty());
    Ok(())
}

#[test]
fn a_name_that_is_taken() -> Result<()> {
    let host = Host::start()?;
    host.agent("a").run()?;
    host.agent("a").run_to_end()?.failed(73, "already")?;
    host.existing("a").expect_session()
}

#[test]
fn an_unsafe_mount_is_refused_and_leaves_nothing() -> Result<()> {
    let host = Host::start()?;
    let inside_state = format!("{}:/x", host.state_dir().display());
    for volume in [
        "/:/host",
        "/var/run/docker.sock:/d",
        "/proc:/p",
        "/var/lib/docker:/v",
        inside_state.as_str(),
    ] {
        let ran = host.agent("a").option(["--volume", volume]).run_to_end()?;
        ensure!(ran.code != 0 && ran.stderr.contains("mount"), "{volume}: {ran:?}");
    }
    ensure!(
        host.docker
            .containers(&format!("{}.managed", host.prefix()))?
            .is_empty()
    );
    Ok(())
}

#[test]
fn rm_after_the_end_with_its_code() -> Result<()> {
    let host = Host::start()?;
    let ran = host.agent("a").option(["--rm"]).script("exit 7").run_to_end()?;
    ensure!(ran.code == 7, "{ran:?}");
    until_true("the agent to be removed", PATIENCE, || Ok(host.ps()?.is_empty()))?;
    ensure!(
        host.existing("a").wait_exit()? == 7,
        "`clawker wait` gives the code again"
    );
    Ok(())
}

#[test]
fn exec_passes_streams_and_codes() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    let ran = agent.exec(["sh", "-c", "echo out; echo err >&2; exit 9"])?;
    ensure!(
        (ran.code, ran.stdout.as_str()) == (9, "out\n") && ran.stderr.contains("err"),
        "{ran:?}"
    );
    // More than every ring and window on the way.
    let big = agent.exec([
        "sh",
        "-c",
        "yes 0123456789abcde | head -c 40000000 | tee /tmp/x | md5sum >&2; cat /tmp/x",
    ])?;
    ensure!(
        big.code == 0 && big.stdout.len() == 40_000_000,
        "{} bytes, {}",
        big.stdout.len(),
        big.stderr
    );
    ensure!(
        big.stdout.lines().all(|line| line == "0123456789abcde"),
        "bytes were changed"
    );
    Ok(())
}

#[test]
fn an_agent_without_a_network_has_none() -> Result<()> {
    let host = Host::start()?;
    let listener = host.listener("l")?;
    let agent = host.agent("a").option(["--network", "none"]).run()?;
    ensure!(!agent.tries_to_reach(&listener)?);
    let links = agent.exec(["ls", "/sys/class/net"])?.ok()?.stdout;
    ensure!(links.trim() == "lo", "{links}");
    throughout("the session", Duration::from_secs(1), || {
        Ok(agent.view()?["session"] == "connected")
    })
}

#[test]
fn an_exec_that_the_kernel_kills_for_memory_says_so() -> Result<()> {
    // Docker may tell of one kill several times, for which egress-guard would freeze the agent.
    let host = Setup::test()?.config("policies = []").start()?;
    let agent = host.agent("a").option(["--memory", "48m"]).run()?;
    let eat = "x=$(dd if=/dev/zero bs=1M count=200 2>/dev/null | tr '\\000' x); echo unreached";
    let ran = agent.exec(["sh", "-c", eat])?;
    ensure!(
        ran.code == 137 && ran.stdout.is_empty() && ran.stderr.contains("out of memory"),
        "{ran:?}"
    );
    host.expect_event("ExecExited", |row| row.body["signal"] == 9 && row.body["oom"] == true)?;
    // The agent's own command lives, and another exec is served.
    ensure!(agent.exec(["echo", "still"])?.stdout == "still\n");
    Ok(())
}
