//! The plan: steps that prepare an agent before its command runs.

use anyhow::{Result, ensure};
use clawker_tests::Host;
use clawker_tests::host::Setup;

#[test]
fn the_welcome_file_is_there_before_the_command() -> Result<()> {
    let host = Host::start()?;
    let ran = host.agent("a").script("cat /etc/clawker-welcome").run_to_end()?.ok()?;
    let expected = format!("welcome, {}; this is start 1\n", host.existing("a").full());
    ensure!(ran.stdout == expected, "{ran:?}");
    let order: Vec<String> = host.events().into_iter().map(|row| row.kind).collect();
    let at = |kind: &str| order.iter().position(|k| k == kind);
    let steps = [
        "AgentRegistered",
        "InitStarted",
        "InitStepCompleted",
        "InitCompleted",
        "AgentReadyIntended",
    ];
    let places: Vec<_> = steps.iter().map(|kind| at(kind)).collect();
    ensure!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{steps:?} at {places:?}"
    );
    Ok(())
}

#[test]
fn a_steps_command_runs_as_the_images_user_before_the_agents() -> Result<()> {
    let config = "[[plan]]\nplugin = \"welcome\"\n[plan.settings]\ncommand = [\"sh\", \"-c\", \"id -u >/work/by\"]\n";
    let host = Setup::test()?.config(config).start()?;
    let ran = host.agent("a").script("cat /work/by").run_to_end()?.ok()?;
    ensure!(ran.stdout == "1000\n", "{ran:?}");
    Ok(())
}

#[test]
fn the_plan_is_shown() -> Result<()> {
    let host = Host::start()?;
    let agent = host.agent("a").run()?;
    agent.expect("plan", |view| view["plan"] == "done")?;
    let foreground = host.agent("b").script("true").run_to_end()?.ok()?;
    ensure!(
        foreground.stderr.contains("welcome"),
        "progress names no step: {foreground:?}"
    );
    Ok(())
}

#[test]
fn a_step_that_fails_keeps_the_command_from_running() -> Result<()> {
    let config =
        "[[plan]]\nplugin = \"welcome\"\n[plan.settings]\ncommand = [\"sh\", \"-c\", \"echo no >&2; exit 4\"]\n";
    let host = Setup::test()?.config(config).start()?;
    let ran = host.agent("a").script("echo it ran").run_to_end()?;
    ensure!(ran.code != 0 && !ran.stdout.contains("it ran"), "{ran:?}");
    ensure!(ran.stderr.contains("welcome"), "{ran:?}");
    let agent = host.existing("a");
    agent.expect("plan", |view| view["plan"] == "failed: welcome")?;
    let failed = host.expect_event("InitFailed", |row| row.agent == agent.full())?;
    ensure!(
        failed.body["step"] == "welcome" && failed.body["detail"].to_string().contains("no"),
        "{failed:?}"
    );
    ensure!(host.events().iter().all(|row| row.kind != "AgentReadyIntended"));
    Ok(())
}

#[test]
fn a_plan_without_steps() -> Result<()> {
    let host = Setup::test()?.config("plan = []\n").start()?;
    let ran = host
        .agent("a")
        .script("test ! -e /etc/clawker-welcome && exit 3")
        .run_to_end()?;
    ensure!(ran.code == 3, "{ran:?}");
    Ok(())
}
