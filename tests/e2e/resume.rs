//! An operator's exec over the death of the control plane, and over its client's.

use anyhow::{Context, Result, ensure};
use clawker_tests::agent::{Agent, Process, processes_of};
use clawker_tests::host::Host;
use clawker_tests::ran::Running;
use clawker_tests::wait::{PATIENCE, until_true};

/// Prints a line whenever a file of its number appears; ends after so many.
const STEPS: &str = r#"n=1; while [ $n -le 4 ]; do until [ -e /shared/go-$n ]; do sleep 0.02; done; echo "line $n"; echo "error $n" >&2; n=$((n+1)); done; exit 5"#;

/// Lets [`STEPS`] print its line `n`.
fn go(host: &Host, n: u32) -> Result<()> {
    std::fs::write(host.shared_dir().join(format!("go-{n}")), "").context("letting it go on")
}

/// Waits until the journal says that it was started once and ended once.
fn expect_once(host: &Host, exec: &str) -> Result<()> {
    until_true(&format!("{exec} to be journaled"), PATIENCE, || {
        let rows = host.events();
        let count = |kind: &str| {
            rows.iter()
                .filter(|row| row.kind == kind && row.body["exec"] == exec)
                .count()
        };
        let (started, exited) = (count("ExecStarted"), count("ExecExited"));
        ensure!(
            started <= 1 && exited <= 1,
            "{exec}: started {started} times, ended {exited} times"
        );
        Ok((started, exited) == (1, 1))
    })
}

fn steps<'h>(host: &'h Host) -> Result<Agent<'h>> {
    host.agent("a").shared().root().run()
}

fn lines(word: &str) -> String {
    (1..=4).map(|n| format!("{word} {n}\n")).collect()
}

/// 3 MB in which every line is another, as text and as bytes.
fn input() -> Result<(String, Vec<u8>)> {
    let text: String = (0..300_000).map(|n| format!("{n:09}\n")).collect();
    Ok((text.clone(), text.into_bytes()))
}

/// It ends well, and gives back all that it was given.
fn came_back(cat: Running, text: &str) -> Result<()> {
    let ran = cat.finish(PATIENCE)?.ok()?;
    ensure!(
        ran.stdout == text,
        "{} of {} bytes came back, or others",
        ran.stdout.len(),
        text.len()
    );
    Ok(())
}

#[test]
fn an_exec_goes_on_over_a_killed_control_plane_with_nothing_lost_or_doubled() -> Result<()> {
    let mut host = Host::start()?;
    let agent = steps(&host)?;
    let short = agent.short();
    let exec = host.cli_in_background(["exec", "--id", "steps", &short, "--", "sh", "-c", STEPS])?;
    // And one with input, which is on its way when the control plane dies.
    let (text, input) = input()?;
    let slow =
        "n=0; while [ $n -lt 30 ]; do dd bs=100000 count=1 iflag=fullblock 2>/dev/null; n=$((n+1)); sleep 0.05; done";
    let cat = host.cli_fed(["exec", "-i", "--id", "cat", &short, "--", "sh", "-c", slow], input)?;
    go(&host, 1)?;
    host.expect_event("ExecStarted", |row| row.body["exec"] == "operator/cat")?;
    host.expect_event("ExecStarted", |row| row.body["exec"] == "operator/steps")?;
    host.kill_control_plane()?;
    go(&host, 2)?;
    host.restart_control_plane()?;
    go(&host, 3)?;
    // Once more, as an update does it.
    host.stop_control_plane()?;
    go(&host, 4)?;
    host.restart_control_plane()?;

    let ran = exec.finish(PATIENCE)?;
    ensure!(
        (ran.code, ran.stdout.as_str()) == (5, lines("line").as_str()),
        "{ran:?}"
    );
    let errors: String = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("error "))
        .map(|line| format!("{line}\n"))
        .collect();
    ensure!(errors == lines("error"), "{ran:?}");
    came_back(cat, &text)?;
    for exec in ["operator/steps", "operator/cat"] {
        expect_once(&host, exec)?;
    }
    Ok(())
}

#[test]
fn an_exec_that_ends_without_a_control_plane_is_told_its_exit_afterwards() -> Result<()> {
    let mut host = Host::start()?;
    let agent = steps(&host)?;
    let (short, container) = (agent.short(), agent.container()?);
    let told = host.cli_in_background(["exec", "--id", "told", &short, "--", "sh", "-c", STEPS])?;
    host.expect_event("ExecStarted", |row| row.body["exec"] == "operator/told")?;
    let left = host.cli_in_background(["exec", "--id", "left", "--keep", &short, "--", "sh", "-c", STEPS])?;
    host.expect_event("ExecStarted", |row| row.body["exec"] == "operator/left")?;
    let running = || {
        let all = processes_of(&container)?;
        let is_step = |process: &&Process| process.command.starts_with("sh -c n=1");
        anyhow::Ok(all.iter().filter(is_step).count())
    };
    // Journaled is not yet begun, and one that nobody asks for again never is.
    until_true("both execs to run", PATIENCE, || Ok(running()? == 2))?;
    host.kill_control_plane()?;
    // Its client dies with the control plane: the journal is to know its end all the same.
    left.kill()?;
    (1..=4).try_for_each(|n| go(&host, n))?;
    until_true("both execs to end", PATIENCE, || Ok(running()? == 0))?;
    host.restart_control_plane()?;
    let ran = told.finish(PATIENCE)?;
    ensure!(
        (ran.code, ran.stdout.as_str()) == (5, lines("line").as_str()),
        "{ran:?}"
    );
    host.expect_event("ExecExited", |row| {
        row.body["exec"] == "operator/left" && row.body["code"] == 5
    })?;
    // And whoever asks for it has its output.
    let ran = host.cli(["exec", "--id", "left", "--keep", &short, "--", "sh", "-c", STEPS])?;
    ensure!(
        (ran.code, ran.stdout.as_str()) == (5, lines("line").as_str()),
        "{ran:?}"
    );
    expect_once(&host, "operator/left")?;
    expect_once(&host, "operator/told")
}

#[test]
fn the_same_id_starts_nothing_twice() -> Result<()> {
    let mut host = Host::start()?;
    let agent = host.agent("a").shared().root().run()?;
    let short = agent.short();
    let once = [
        "exec",
        "--id",
        "once",
        &short,
        "--",
        "sh",
        "-c",
        "echo x >> /shared/ran; exit 3",
    ];
    let ran = host.cli(once)?;
    ensure!(ran.code == 3, "{ran:?}");
    ensure!(host.cli(once)?.code == 3, "told again");
    host.cli(["exec", "--id", "once", &short, "--", "true"])?
        .failed(73, "another command has the id")?;
    host.cli(["exec", "--id", "a/b", &short, "--", "true"])?
        .failed(2, "not an id")?;
    host.stop_control_plane()?;
    host.restart_control_plane()?;
    host.existing("a").expect_session()?;
    ensure!(host.cli(once)?.code == 3, "told again by another life");
    ensure!(host.existing("a").exec(["cat", "/shared/ran"])?.stdout == "x\n");

    // Of a start that is over there is nothing to go on with.
    let exec = host.cli_in_background(["exec", "--id", "long", &short, "--", "sleep", "600"])?;
    host.expect_event("ExecStarted", |row| row.body["exec"] == "operator/long")?;
    host.cli(["restart", "--timeout", "1", &short])?.ok()?;
    exec.finish(PATIENCE)?.failed(1, "lost")?;
    let again = ["exec", "--id", "long", &short, "--", "sleep", "600"];
    host.cli(again)?.failed(125, "nothing is started twice")?;
    Ok(())
}

#[test]
fn a_kept_exec_outlives_its_client_and_another_goes_on_with_it() -> Result<()> {
    let host = Host::start()?;
    let agent = steps(&host)?;
    let short = agent.short();
    let line = ["exec", "--id", "kept", "--keep", &short, "--", "sh", "-c", STEPS];
    let first = host.cli_in_background(line)?;
    go(&host, 1)?;
    until_true("the first client to be there", PATIENCE, || {
        Ok(first.printed().contains("line 1"))
    })?;
    first.kill()?;
    let second = host.cli_in_background(line)?;
    go(&host, 2)?;
    until_true("the second client to be there", PATIENCE, || {
        Ok(second.printed().contains("line 2"))
    })?;
    // The newest has it: who attended before is told, and leaves without ending it.
    let third = host.cli_in_background(line)?;
    let ended = second.finish(PATIENCE)?;
    ensure!(
        ended.code == 1 && ended.stderr.contains("somebody else goes on"),
        "{ended:?}"
    );
    go(&host, 3)?;
    go(&host, 4)?;
    let ran = third.finish(PATIENCE)?;
    ensure!(ran.code == 5 && ran.stdout.ends_with("line 3\nline 4\n"), "{ran:?}");
    expect_once(&host, "operator/kept")?;

    // One that isn't kept is hung up.
    let ran = host.cli_in_background([
        "exec",
        &short,
        "--",
        "sh",
        "-c",
        "echo $$ > /shared/pid; exec sleep 600",
    ])?;
    until_true("its pid", PATIENCE, || Ok(host.shared_dir().join("pid").exists()))?;
    let mark = host.mark();
    ran.kill()?;
    host.expect_event_after(mark, "ExecExited", |row| row.body["signal"] == 1)?;
    Ok(())
}

#[test]
fn input_and_output_of_megabytes_pass_at_once() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    let (text, input) = input()?;
    let cat = host.cli_fed(["exec", "-i", &agent.short(), "--", "cat"], input)?;
    came_back(cat, &text)
}
