//! What an image, or root inside an agent, may try against clawkerd itself.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clawker_tests::wait::{PATIENCE, throughout, until, until_true};
use clawker_tests::{Host, Image, bins, ran};
use rustix::process::{Pid, Signal};

/// Root in the container with all that PID 1 needs: the key must be out of its reach.
#[test]
fn pid_1_memory_read_by_a_root_agent() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").root().run()?;
    let half = agent
        .exec(["sh", "-c", "grep -l 'sess[i]on' /proc/[0-9]*/cmdline | head -1"])?
        .stdout;
    let half = half
        .split('/')
        .nth(2)
        .context("the session half's pid, as the agent sees it")?
        .to_owned();
    for pid in ["1", half.as_str()] {
        for (what, attempt) in [
            ("memory", format!("dd if=/proc/{pid}/mem bs=1 count=1 skip=4194304")),
            ("environment", format!("cat /proc/{pid}/environ")),
            (
                "descriptors",
                format!("for f in /proc/{pid}/fd/*; do head -c 1 $f && exit 0; readlink $f && exit 0; done; exit 1"),
            ),
            ("map", format!("cat /proc/{pid}/maps")),
            ("program", format!("head -c 1 /proc/{pid}/exe")),
        ] {
            let ran = agent.exec(["sh", "-c", &attempt])?;
            let refused = ran.stderr.contains("ermission denied") || ran.stderr.contains("not permitted");
            ensure!(ran.code != 0 && refused, "the {what} of {pid}: {ran:?}");
        }
    }
    Ok(())
}

/// A session half that is started anew must never be open to a thief that waits for it, not for an instant: whoever has
/// its memory open reads from it for ever.
#[test]
fn alone_a_new_session_half_is_never_readable() -> Result<()> {
    let host = Host::start()?;
    let agent = host
        .agent("a")
        .root()
        .adversary()?
        .script("sleep 1000 & exec /adversary/forged-clawkerd steal 25")
        .run()?;
    agent.wait_for_log(PATIENCE, |logs| logs.contains("stealing"))?;
    let mut seen = Vec::new();
    while !agent.logs()?.contains("opened") {
        let half = agent
            .processes()?
            .into_iter()
            .find(|p| p.command.starts_with("clawkerd session ") && !seen.contains(&p.pid));
        let Some(half) = half else { continue };
        seen.push(half.pid);
        if let Some(pid) = Pid::from_raw(half.pid) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    ensure!(seen.len() > 10, "only {} session halves were seen", seen.len());
    let logs = agent.logs()?;
    let stolen: Vec<&str> = logs.lines().filter(|line| line.contains("\"stolen\"")).collect();
    ensure!(
        stolen.iter().any(|line| line.contains("sleep 1000")),
        "the control: nothing was stolen:\n{logs}"
    );
    ensure!(
        stolen.len() == 1,
        "of {} session halves some were open: {stolen:?}",
        seen.len()
    );
    Ok(())
}

/// Root in an agent stops the session half: PID 1 notices and starts another.
#[test]
fn session_half_stopped_by_a_root_agent() -> Result<()> {
    let host = Host::start()?;
    let agent = host
        .agent("a")
        .root()
        .script("until [ -e /work/end ]; do sleep 0.1; done; exit 7")
        .run()?;
    agent.expect_session()?;
    let before = agent.session_half()?;
    agent.exec([
        "sh",
        "-c",
        "for p in /proc/[0-9]*; do grep -q 'sess[i]on' $p/cmdline && kill -STOP ${p#/proc/}; done; true",
    ])?;
    host.expect_event("SessionHalfStopped", |row| row.agent == agent.full())?;
    agent.expect_session()?;
    let after = agent.session_half()?;
    ensure!(before != after, "it is still the same session half");
    agent.exec(["touch", "/work/end"])?.ok()?;
    agent.expect_exited(7)
}

#[test]
fn a_killed_session_half_loses_no_output() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    let short = agent.short();
    let writer = "n=0; while [ $n -lt 3000 ]; do echo line $n; n=$((n+1)); done; sleep 1; echo end";
    let running = host.cli_in_background(["exec", &short, "--", "sh", "-c", writer])?;
    let half = agent.session_half()?;
    rustix::process::kill_process(Pid::from_raw(half).context("a pid")?, Signal::KILL)?;
    let ran = running.finish(PATIENCE)?;
    if ran.code == 0 {
        let expected: String = (0..3000)
            .map(|n| format!("line {n}\n"))
            .chain(["end\n".to_owned()])
            .collect();
        ensure!(
            ran.stdout == expected,
            "output was lost or came twice: {} bytes",
            ran.stdout.len()
        );
    } else {
        // The command line tool may give up on a cut exec; it must say so.
        ensure!(!ran.stderr.is_empty(), "{ran:?}");
    }
    agent.expect_session()
}

/// Asking the C library for a user would run the image's code as root in PID 1.
#[test]
fn hostile_nsswitch_image() -> Result<()> {
    let host = Host::start()?;
    let image = hostile_image(&host)?.make(&host.docker)?;

    // The positive control: this is what the trap does to a static program that asks.
    let trapped = host.agent("trapped").image(&image).root().adversary()?;
    let control = trapped
        .command([
            "/bin/sh",
            "-c",
            "/adversary/forged-clawkerd lookup agent; test -e /evil-was-here && echo trapped",
        ])
        .run_to_end()?;
    ensure!(
        control.stdout.contains("trapped"),
        "the trap doesn't work, so this test shows nothing: {control:?}"
    );

    let agent = host.agent("a").image(&image).option(["--user", "agent:agent"]).run()?;
    agent.expect_session()?;
    agent.exec(["id"])?.ok()?;
    agent.exec_as_root(["true"])?.ok()?;
    let root = format!("/proc/{}/root/evil-was-here", agent.init_pid()?);
    ensure!(!std::path::Path::new(&root).exists(), "the image's code ran as root");
    let uid = agent.exec(["id", "-u"])?.ok()?.stdout;
    ensure!(uid == "1000\n", "{uid}");
    Ok(())
}

/// An image whose name service is a trap: whoever loads it leaves a file.
fn hostile_image(host: &Host) -> Result<Image> {
    let dir = tempfile::tempdir().context("a folder")?;
    let source = dir.path().join("evil.c");
    std::fs::write(
        &source,
        "#include <fcntl.h>\n__attribute__((constructor)) static void evil(void) { open(\"/evil-was-here\", O_CREAT | O_WRONLY, 0666); }\n",
    )?;
    let library = dir.path().join("libnss_evil.so.2");
    ran::run(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source),
        PATIENCE,
    )?
    .ok()?;
    let mut image = host
        .busybox_recipe()?
        .with_file("etc/nsswitch.conf", 0o644, b"passwd: evil\ngroup: evil\nhosts: evil\n")
        .with_dir("lib/")
        .with_dir("lib64/")
        .with_dir("lib/x86_64-linux-gnu/")
        .with_file(
            "lib/x86_64-linux-gnu/libnss_evil.so.2",
            0o755,
            &std::fs::read(&library)?,
        );
    for (from, to) in [
        ("/lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/libc.so.6"),
        ("/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
        (
            "/lib64/ld-linux-x86-64.so.2",
            "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        ),
    ] {
        image = image.with_file(
            to,
            0o755,
            &std::fs::read(from).with_context(|| format!("reading {from}"))?,
        );
    }
    Ok(image)
}

/// An image's health check is the image's code: it runs as the image's user, and not before AgentReady.
#[test]
fn health_check_before_agent_ready() -> Result<()> {
    let mut host = Host::start()?;
    std::fs::create_dir(host.shared_dir().join("health"))?;
    std::os::unix::fs::chown(host.shared_dir().join("health"), Some(1000), Some(1000))?;
    let image = host
        .busybox_recipe()?
        .with("HEALTHCHECK --interval=1s --timeout=2s --retries=2 CMD id -u >>/shared/health/by; test ! -e /shared/ill")
        .make(&host.docker)?;
    let agent = host.agent("a").image(&image).shared().run()?;
    let container = agent.container()?;
    let by = host.shared_dir().join("health/by");
    until_true("a health check", PATIENCE, || Ok(by.exists()))?;
    ensure!(
        std::fs::read_to_string(&by)?.lines().all(|uid| uid == "1000"),
        "it ran as somebody else"
    );
    agent.expect("health", |view| view["health"] == "healthy")?;
    let config = agent.inspect()?["Config"]["Healthcheck"].clone();
    ensure!(
        config["Test"] == serde_json::json!(["NONE"]),
        "Docker runs it too: {config}"
    );
    std::fs::write(host.shared_dir().join("ill"), "")?;
    agent.expect("health", |view| view["health"] == "unhealthy")?;

    // Nobody says AgentReady here, so nothing of the image's runs.
    host.docker.stop(&container, 5)?;
    host.kill_control_plane()?;
    std::fs::remove_file(&by)?;
    host.docker.start(&container)?;
    until("clawkerd to run", PATIENCE, || {
        Ok(bins::libexec()
            .ok()
            .filter(|_| clawker_tests::agent::processes_of(&container).is_ok_and(|p| !p.is_empty())))
    })?;
    throughout("no health check", Duration::from_secs(3), || Ok(!by.exists()))?;
    let run = clawker_tests::agent::processes_of(&container)?;
    ensure!(
        run.iter().all(|process| process.command.contains("clawkerd")),
        "something of the image's runs: {run:?}"
    );
    host.restart_control_plane()?;
    until_true("health checks again", PATIENCE, || Ok(by.exists()))
}
